"""Implicit Runge-Kutta methods whose inner iteration is judged as the trajectory is."""

from __future__ import annotations

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import PyTree

from .._linalg import tree_norm


class VectorChord(optx.AbstractRootFinder):
    """`diffrax.VeryChord`, converged when the whole vector is, in the Euclidean norm.

    The slope that an implicit stage solves for falls by orders of magnitude along a flow, and
    single entries of it pass through zero: neither an absolute tolerance nor a relative one for
    each entry, as VeryChord has them, holds along the run.

    Args:
        rtol: what the norm of the last change may be, relative to that of the slope.

    >>> import diffrax
    >>> import gradflow as gf
    >>> solver = diffrax.Kvaerno3(root_finder=gf.solvers.VectorChord(rtol=1e-6))
    >>> gf.solvers.build(solver, rtol=1e-3)[0].solver.root_finder.rtol  # left as it is
    1e-06
    """

    chord: diffrax.VeryChord
    rtol: float
    atol: float = 0.0
    norm: Any = eqx.field(static=True, default=tree_norm)

    def __init__(self, rtol: float):
        self.rtol = rtol
        self.chord = diffrax.VeryChord(rtol=1.0, atol=1.0)

    def init(self, fn, y, args, options, f_struct, aux_struct, tags) -> PyTree:
        """See `optimistix.AbstractRootFinder.init`."""
        return self.chord.init(fn, y, args, options, f_struct, aux_struct, tags)

    def step(self, fn, y, args, options, state, tags):
        """See `optimistix.AbstractRootFinder.step`."""
        y, state, aux = self.chord.step(fn, y, args, options, state, tags)
        scale = self.rtol * tree_norm(y)
        size = tree_norm(state.diff) / jnp.maximum(scale, jnp.finfo(scale.dtype).tiny)
        return y, eqx.tree_at(lambda s: s.diffsize, state, size), aux

    def terminate(self, fn, y, args, options, state, tags):
        """See `optimistix.AbstractRootFinder.terminate`."""
        return self.chord.terminate(fn, y, args, options, state, tags)

    def postprocess(self, fn, y, aux, args, options, state, tags, result):
        """See `optimistix.AbstractRootFinder.postprocess`."""
        return self.chord.postprocess(fn, y, aux, args, options, state, tags, result)
