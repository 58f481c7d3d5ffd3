"""Implicit Runge-Kutta methods for gradient flows of any size: Newton and conjugate gradients.

A stage of an ESDIRK method (explicit first stage, one diagonal coefficient a) solves

    z = h a f(base + z)

for its increment z. Newton's matrix is I - h a J with J the Jacobian of f. That of a gradient flow
is minus the Hessian H of the loss, so the matrix I + h a H is symmetric, and conjugate gradients
need nothing of it but Hessian-vector products: no matrix is ever formed.

Where the loss curves downwards the matrix may be indefinite, and then the step is refused and
taken again shorter. There is nothing better to be had from another linear solver: a direction of
curvature -c is multiplied by R(h c) where the flow multiplies it by exp(h c), and the rational
function R has its pole at h c = 1 / a, beyond which the stage equations still have a solution but
not the flow's. R is within a fifth of exp up to half of that for all of Kvaerno's methods and wrong
by factors soon after, so half is where steps end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from diffrax import AbstractESDIRK
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._linalg import tree_axpy, tree_norm, tree_sub
from .conjugate_gradients import conjugate_gradients
from .continuous_extension import continuous_extension
from .controller import whole_state
from .runge_kutta import StageInterpolation, vector_field

_SHARE = 0.5  # of rtol, for what the equations of a stage are left unsolved by
_CURVATURE = 0.5  # the least eigenvalue that Newton's matrix may have: half way to R's pole
_MAX_ITERATIONS = 10  # of Newton's; a shorter step is the better way out
_ROUNDINGS = 4  # of the state, below which a residual does not count
_STALLED = 100  # tolerances within which an iteration that no longer converges is let pass

_NO_DERIVATIVES = (
    "NewtonKrylov stops when the state is right, which its derivatives need not be yet, so "
    "differentiation does not go through its steps; take another solver, as diffrax.Kvaerno5() "
    "or an explicit one"
)


class KrylovState(NamedTuple):
    """What a step hands to the next.

    Attributes:
        slope: F at the end of the step.
        evaluations: gradient evaluations spent in the step, a Hessian-vector product as two.
    """

    slope: PyTree
    evaluations: Int[Array, ""]


class _Stages(NamedTuple):
    index: Int[Array, ""]
    slopes: PyTree  # stacked, zero where still to come
    state: PyTree  # at the last stage
    length: Float[Array, ""]
    evaluations: Int[Array, ""]
    solved: Bool[Array, ""]


class _Newton(NamedTuple):
    increment: PyTree
    slope: PyTree
    residual: Float[Array, ""]  # its norm
    update: Float[Array, ""]  # the norm of the last
    length: Float[Array, ""]
    iterations: Int[Array, ""]
    evaluations: Int[Array, ""]
    solved: Bool[Array, ""]
    lost: Bool[Array, ""]


class NewtonKrylov(diffrax.AbstractAdaptiveSolver):
    """An ESDIRK method of diffrax for gradient flows, by Newton and conjugate gradients.

    Every stage starts from the tableau's own predictor and is solved until its residual, in the
    Euclidean norm, is at most half of `rtol` times the distance from the start of the step. What
    is left unsolved then adds up to about `rtol` times the length of the path over a run: the
    error of a stage is at most its residual where H >= 0, at most twice that where the step is
    taken at all. It is the residual of the field itself, so a Jacobian that is not quite symmetric
    costs iterations, not accuracy.

    A step costs one evaluation for each iteration of Newton's method and two for each
    of conjugate gradients, about sqrt(h |H|) of them or, if fewer, one for each cluster of
    eigenvalues. Takes part in `jit` and `vmap`, not in differentiation, and works in plain
    `diffrax.diffeqsolve` for any vector field whose Jacobian is symmetric.

    Attributes:
        method: `diffrax.Kvaerno3()`, `Kvaerno4()` or `Kvaerno5()`; its root finder is not used.
        rtol: the tolerance of the run.
        measured: selects the part of the state whose Jacobian is symmetric; all of it by default.
            The rest is integrated along: the slope may not depend on it.

    Raises:
        ValueError: `method` is no ESDIRK method whose last stage is the end of the step.

    >>> import diffrax
    >>> import gradflow as gf
    >>> solver = gf.solvers.NewtonKrylov(diffrax.Kvaerno5(), rtol=1e-6)  # solver="kvaerno5-cg"
    >>> solver.name, solver.order(None)
    ('kvaerno5-cg', 5)
    """

    method: AbstractESDIRK = eqx.field(static=True)
    rtol: Any
    measured: Callable = eqx.field(static=True, default=whole_state)

    term_structure = diffrax.AbstractTerm

    def __check_init__(self):
        if not isinstance(self.method, AbstractESDIRK) or not self.tableau.fsal:
            raise ValueError(
                f"{type(self.method).__name__} is not an ESDIRK method that ends a step in its "
                "last stage; take diffrax.Kvaerno3(), Kvaerno4() or Kvaerno5()"
            )

    @property
    def tableau(self) -> diffrax.ButcherTableau:
        """The method's coefficients."""
        return cast(diffrax.ButcherTableau, self.method.tableau)

    @property
    def name(self) -> str:
        """As in `gradflow.solvers.SOLVERS`."""
        return f"{type(self.method).__name__.lower()}-cg"

    @property
    def interpolation_cls(self):
        """Makes the dense output of a step."""
        weights = continuous_extension(self.tableau)
        return lambda *, t0, t1, y0, slopes: StageInterpolation(t0, t1, y0, slopes, weights)

    def order(self, terms) -> int | None:
        """The order of the method."""
        return self.method.order(terms)

    def evaluations(self, solver_state: KrylovState) -> Int[Array, ""]:
        """Gradient evaluations spent in the step that returned `solver_state`."""
        return solver_state.evaluations

    def func(self, terms: diffrax.AbstractTerm, t0, y0: PyTree, args) -> PyTree:
        """The vector field at one point."""
        return vector_field(terms, t0, y0, args)

    def init(self, terms: diffrax.AbstractTerm, t0, t1, y0: PyTree, args) -> KrylovState:
        """The vector field at the start, with which the first step begins."""
        del t1
        return KrylovState(vector_field(terms, t0, y0, args), jnp.zeros((), jnp.int32))

    def step(
        self,
        terms: diffrax.AbstractTerm,
        t0,
        t1,
        y0: PyTree,
        args,
        solver_state: KrylovState,
        made_jump,
    ):
        """One step; see `diffrax.AbstractSolver.step`.

        Where the equations are not solved the error is infinite, which has the step refused.
        """
        slope, spent = solver_state.slope, jnp.zeros((), jnp.int32)
        if made_jump is not False:
            slope = jax.lax.cond(
                made_jump, lambda: vector_field(terms, t0, y0, args), lambda: slope
            )
            spent = jnp.asarray(made_jump).astype(jnp.int32)
        h = jnp.asarray(t1 - t0, jax.tree.leaves(y0)[0].dtype)
        stages = self._solve_stages(lambda t, y: vector_field(terms, t, y, args), t0, h, y0, slope)
        stages = eqxi.nondifferentiable(stages, msg=_NO_DERIVATIVES)
        error = _combine(h, jnp.asarray(self.tableau.b_error, h.dtype), stages.slopes)
        error = jax.tree.map(lambda e: jnp.where(stages.solved, e, jnp.inf), error)
        slopes = tuple(
            jax.tree.map(lambda k, i=i: k[i], stages.slopes) for i in range(self.tableau.num_stages)
        )
        fine, diverged = diffrax.RESULTS.successful, diffrax.RESULTS.nonlinear_divergence
        result = diffrax.RESULTS.where(stages.solved, fine, cast(diffrax.RESULTS, diverged))
        state = KrylovState(slopes[-1], spent + stages.evaluations)
        return stages.state, error, {"y0": y0, "slopes": slopes}, state, result

    def _solve_stages(self, field: Callable, t0, h, y0: PyTree, first: PyTree) -> _Stages:
        """All stages of a step, up to the first that cannot be solved.

        One loop, so that the field is compiled once and not for each stage.
        """
        lower, predictor, diagonal, nodes = (jnp.asarray(x, h.dtype) for x in _rows(self.tableau))
        count = self.tableau.num_stages

        def unfinished(stages: _Stages) -> Bool[Array, ""]:
            return (stages.index < count) & stages.solved

        def advance(stages: _Stages) -> _Stages:
            i = stages.index
            base = jax.tree.map(jnp.add, y0, _combine(h, lower[i], stages.slopes))
            step = h * diagonal[i]
            guess = _combine(step, predictor[i], self.measured(stages.slopes))
            time = t0 + (nodes[i] * h).astype(jnp.result_type(t0))
            found = self._solve_stage(
                partial(field, time), self.measured(y0), base, guess, step, stages.length
            )
            increment = jax.tree.map(lambda z: z / step, found.increment)
            slope = eqx.tree_at(self.measured, found.slope, increment)
            return _Stages(
                i + 1,
                jax.tree.map(lambda ks, k: ks.at[i].set(k), stages.slopes, slope),
                tree_axpy(step, slope, base),
                found.length,
                stages.evaluations + found.evaluations,
                found.solved,
            )

        slopes = jax.tree.map(lambda k: jnp.zeros((count, *k.shape), k.dtype).at[0].set(k), first)
        one, zero = jnp.ones((), jnp.int32), jnp.zeros((), jnp.int32)
        begin = _Stages(one, slopes, y0, jnp.zeros_like(h), zero, jnp.asarray(True))
        return jax.lax.while_loop(unfinished, advance, begin)

    def _solve_stage(
        self, field: Callable, start: PyTree, base: PyTree, guess: PyTree, step, length
    ) -> _Newton:
        """Solve z = step * f(base + z) by Newton's method, from z = `guess`.

        Args:
            field: f, from a state to its slope.
            start: where the step starts; only the measured part, as is z.
            base: the state without z.
            guess: a first z.
            step: the step size times the diagonal coefficient.
            length: the farthest that the stages before have come from `start`.
        """
        select = self.measured
        origin, zeros = select(base), jax.tree.map(jnp.zeros_like, base)
        rtol = jnp.asarray(self.rtol, step.dtype)
        rounding = jnp.finfo(step.dtype).eps * tree_norm(start)

        def unfinished(search: _Newton) -> Bool[Array, ""]:
            return ~search.solved & ~search.lost & (search.iterations < _MAX_ITERATIONS)

        def iterate(search: _Newton) -> _Newton:
            z = search.increment
            there = jax.tree.map(jnp.add, origin, z)
            length = jnp.maximum(search.length, tree_norm(tree_sub(there, start)))
            tolerance = jnp.maximum(_SHARE * rtol * length, _ROUNDINGS * rounding)
            slope, push = jax.linearize(field, eqx.tree_at(select, base, there))
            residual = jax.tree.map(lambda f, zi: step * f - zi, select(slope), z)
            size = tree_norm(residual)
            # Rounding in a stiff field, h |H| times that of the state, keeps the residual up where
            # z is as good as it gets; where that is not good enough, the error estimate shows it.
            still = search.update <= _STALLED * tolerance
            stalled = still & (size > search.residual / 2)
            solved = (size <= tolerance) | stalled
            finite = jnp.isfinite(size)

            def product(p: PyTree) -> PyTree:
                return tree_axpy(-step, select(push(eqx.tree_at(select, zeros, p))), p)

            # Half of it is left for the field's own curvature; nothing is done where nothing is
            # asked.
            target = jnp.where(solved | ~finite, jnp.inf, tolerance / 2)
            newton = conjugate_gradients(product, residual, target, _CURVATURE)
            update = tree_norm(newton.x)
            return _Newton(
                jax.tree.map(jnp.add, z, newton.x),
                slope,
                size,
                update,
                length,
                search.iterations + 1,
                search.evaluations + 1 + 2 * newton.products,
                solved,
                ~finite | ~newton.definite | (update > 2 * search.update),
            )

        infinite, zero = jnp.full_like(step, jnp.inf), jnp.zeros((), jnp.int32)
        no = jnp.asarray(False)
        begin = _Newton(guess, zeros, infinite, infinite, length, zero, zero, no, no)
        return jax.lax.while_loop(unfinished, iterate, begin)


def _combine(scale: Float[Array, ""], weights: Float[Array, " s"], slopes: PyTree) -> PyTree:
    """scale * sum_i weights_i slopes_i of slopes stacked along the first axis."""
    highest = jax.lax.Precision.HIGHEST
    return jax.tree.map(
        lambda ks: scale * jnp.tensordot(weights, ks, axes=1, precision=highest), slopes
    )


def _rows(
    tableau: diffrax.ButcherTableau,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The coefficients below the diagonal, of the predictor, on the diagonal, and the nodes."""
    count = tableau.num_stages
    lower, predictor = np.zeros((2, count, count))
    assert tableau.a_predictor is not None
    for i, (a, p) in enumerate(zip(tableau.a_lower, tableau.a_predictor, strict=True), 1):
        lower[i, :i], predictor[i, :i] = a, p
    return lower, predictor, np.asarray(tableau.a_diagonal), np.append(0.0, tableau.c)
