"""What a test problem is, and how its states are written as vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike, DTypeLike

import gradflow as gf

TAGS = {
    "stiff": "stability, not accuracy, limits an explicit method over most of the run",
    "mild": "stability and accuracy ask for steps of about the same size",
    "smooth": "not stiff: an explicit method is the right one",
    "quick": "a tight reference takes seconds on a CPU",
    "large": "about a million parameters: a run takes a minute or more, a reference many",
}


@dataclass(frozen=True)
class Case:
    """A gradient flow that solvers are measured on, in several draws.

    Attributes:
        name: what `benchmarks.problems.PROBLEMS` calls it.
        what: one line: the model, the loss and where the difficulty lies.
        make: the problem of a seed, in JAX's default precision. Everything is drawn on the host
            in float64, so that a float32 problem is the float64 one rounded.
        t1: the end time.
        tags: some of `TAGS`.
        seeds: the draws that figures are quoted for; any other integer from 0 on works too.
        closed_form: ``closed_form(seed, times)``, the exact parameters at ``times`` as rows
            like those of `flat`, shape ``(len(times), size)``; ``None`` where there is none.
    """

    name: str
    what: str
    make: Callable[[int], gf.Problem]
    t1: float
    tags: frozenset[str]
    seeds: tuple[int, ...] = (0, 1, 2)
    closed_form: Callable[[int, ArrayLike], np.ndarray] | None = None

    def __post_init__(self) -> None:
        if unknown := self.tags - set(TAGS):
            raise ValueError(f"{self.name}: no tags {sorted(unknown)}; there are {sorted(TAGS)}")

    def build(self, seed: int = 0, dtype: DTypeLike | None = None) -> gf.Problem:
        """The problem of one seed.

        Args:
            seed: which draw of data and initial parameters.
            dtype: float32 or float64, for parameters and data; JAX's default unless given.

        Raises:
            ValueError: float64 is asked for while JAX has it disabled.
        """
        problem = self.make(seed)
        if dtype is None:
            return problem
        dtype = np.dtype(dtype)
        if jax.dtypes.canonicalize_dtype(dtype) != dtype:
            raise ValueError(
                f"{self.name} was asked for in {dtype}, which JAX has disabled; call "
                "jax.config.update('jax_enable_x64', True) before any array exists"
            )
        return jax.tree.map(
            lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, problem
        )

    def times(self, count: int | None = None) -> np.ndarray:
        """Time 0, then `count` times spaced evenly in log t from 1e-6 t1 to t1.

        There are 60 unless given; of a large problem 12, since each is kept with all parameters.
        """
        if count is None:
            count = 12 if "large" in self.tags else 60
        late = np.geomspace(1e-6 * self.t1, self.t1, count)
        return np.array([0.0, *late[:-1], self.t1])


def flat(params: Any) -> Float[Array, " size"]:
    """All parameters in one vector, leaf after leaf, each in C order.

    Args:
        params: arrays as in `gradflow.Problem.params`, or the user's own structure.
    """
    leaves = jax.tree.leaves(eqx.filter(params, eqx.is_inexact_array))
    return jnp.concatenate([leaf.ravel() for leaf in leaves])


def observed_flat(t: Array, params: Any, data: Any) -> Float[Array, " size"]:
    """`flat` as an observable of `gradflow.solve`: ``observables={"flat": observed_flat}``."""
    del t, data
    return flat(params)


def unflat(problem: gf.Problem, vector: Array) -> Any:
    """The inverse of `flat`: `vector` in the structure of ``problem.params``."""
    leaves, structure = jax.tree.flatten(problem.params)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = jnp.split(vector, ends)
    return structure.unflatten(
        [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    )
