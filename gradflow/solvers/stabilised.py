"""Stabilised explicit Runge-Kutta methods: stages buy stability along the negative real axis.

The Jacobian of a gradient flow is minus a Hessian, so its spectrum is real. An s-stage method
built on a three-term recurrence of orthogonal polynomials is stable for step * radius up to about
0.65 s^2, so a step of the size that accuracy allows costs about the square root of what explicit
Runge-Kutta methods pay for it, without a linear solve and in memory that does not grow with s.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._linalg import positive, tree_axpy, tree_norm, tree_scale, tree_sub
from .branch import only_if
from .controller import whole_state
from .runge_kutta import StageInterpolation, vector_field
from .spectral_radius import AbstractSpectralRadius, Point, PowerIteration

# The cubic Hermite interpolant, on the slopes at both ends and the mean slope between them.
_HERMITE = np.array([[1.0, -2.0, 1.0], [0.0, -1.0, 1.0], [0.0, 3.0, -2.0]])

# A new estimate of the spectral radius is due once this many times what the last one cost has
# been spent on stages: estimates stay below a twentieth of the work.
_THRIFT = 20

# Rounding is done anew in every stage, at random: this times sqrt(s) of it shows in an estimate.
_ROUNDING = 5

# What is left of an estimate that may all be rounding: steps must not leap while it is blind.
_BLIND = 0.02

_REVERSE_MODE = (
    "the number of stages of a stabilised method is known only as it runs, so reverse-mode "
    "differentiation cannot go through its steps; pass adjoint=diffrax.BacksolveAdjoint() or "
    "diffrax.ForwardMode() to diffeqsolve, or take another solver"
)


class StabilisedState(eqx.Module):
    """What a stabilised method carries from step to step.

    Attributes:
        slope: the vector field at the start of the next step.
        radius: the latest bound of the spectral radius, in units of one over time.
        memory: what the estimator of the radius remembers.
        since: evaluations of the vector field since that estimate.
        noise: the change of the slope that rounding the state makes, as of that estimate.
        price: evaluations that the estimate took.
        here: whether that estimate was made where the next step starts, as after a refused step.
        stages: of the last attempt.
        spent: evaluations of the vector field in the last attempt, estimates included.
    """

    slope: PyTree
    radius: Float[Array, ""]
    memory: PyTree
    noise: Float[Array, ""]
    since: Int[Array, ""]
    price: Int[Array, ""]
    here: Bool[Array, ""]
    stages: Int[Array, ""]
    spent: Int[Array, ""]


class Coefficients(eqx.Module):
    """What depends on the number of stages s alone; row i is for s = i + 2.

    Attributes:
        w1: the scale of z in the stability polynomial.
        interval: it is stable for z in [-interval, 0].
        error: the share of the solution's own error in what the estimator compares.
    """

    w1: np.ndarray
    interval: np.ndarray
    error: np.ndarray


class StabilisedRungeKutta(diffrax.AbstractAdaptiveSolver):
    """A family of second-order methods of any number of stages, made from polynomials P_j.

    P_j(x) = (1 + beta_j) x P_{j-1}(x) - beta_j P_{j-2}(x) with P_0 = 1 and P_1 = x. The method of
    s stages has the stability polynomial a_s + b_s P_s(w0 + w1 z), and inner stages of the same
    form with their own a_j and b_j: b_j = P''_j / P'_j^2 and a_j = 1 - b_j P_j at w0 = 1 +
    damping / s^2, and w1 = P'_s / P''_s, make them of second order at c_j = w1 P''_j / P'_j. It is
    stable for -z up to (w0 + 1) / w1, where P_s last oscillates between -1 and 1.

    Every step takes as many stages as its size and the spectral radius ask for, one evaluation
    of the vector field each. The stages are written as increments over y_0, which in float32
    saves two to three digits. The error estimate compares the increment with the trapezoidal
    rule on the slopes at both ends: for a smooth solution that is h^3 y''' (1/12 + C) where the
    step itself errs by C h^3 y''', so it is scaled by C / (1/12 + C), with the C that belongs to
    the s at hand. It grows with h times the radius, so an undamped transient is never missed.

    Takes part in `jit`, `vmap` (where every member of a batch pays for the most stages) and
    forward-mode differentiation; reverse mode goes by `diffrax.BacksolveAdjoint`. Under plain
    `diffrax.diffeqsolve` a step too long for `max_stages` is refused without any evaluation;
    `gradflow.solve` never tries one.

    Attributes:
        spectral_radius: how the radius is estimated; by default `PowerIteration`.
        max_stages: the most stages of a step.
        measured: selects the part of the state on which the Jacobian acts and whose error counts;
            of a gradient flow the parameters, not the energy dissipated.

    >>> import gradflow as gf
    >>> solver = gf.solvers.RKC2(max_stages=20)
    >>> isinstance(solver, gf.solvers.StabilisedRungeKutta), solver.order(None)
    (True, 2)
    """

    spectral_radius: AbstractSpectralRadius = PowerIteration()
    max_stages: int = eqx.field(static=True, default=500)
    measured: Callable = eqx.field(static=True, default=whole_state)

    term_structure = diffrax.AbstractTerm

    def __check_init__(self):
        if not self.max_stages >= 2:
            raise ValueError(
                f"max_stages = {self.max_stages} is too small: two stages are the fewest that "
                "reach second order; leave it at 500 unless memory for tables matters"
            )

    @staticmethod
    @abc.abstractmethod
    def beta(j) -> Any:
        """The second coefficient of the polynomials' recurrence for P_j, j >= 2."""

    @property
    @abc.abstractmethod
    def damping(self) -> float:
        """How far w0 is from 1, times s^2."""

    @property
    def interpolation_cls(self):
        """Makes the cubic Hermite dense output of a step."""
        return lambda *, t0, t1, y0, slopes: StageInterpolation(t0, t1, y0, slopes, _HERMITE)

    @property
    def coefficients(self) -> Coefficients:
        """The tables of this family, in double precision."""
        return _tabulate(self.beta, self.damping, self.max_stages)

    def order(self, terms) -> int:
        """Two."""
        return 2

    def error_order(self, terms) -> int:
        """The estimate is of the error of one step."""
        return 3

    def func(self, terms: diffrax.AbstractTerm, t0, y0: PyTree, args) -> PyTree:
        """The vector field at one point."""
        return vector_field(terms, t0, y0, args)

    def evaluations(self, solver_state: StabilisedState) -> Int[Array, ""]:
        """Evaluations of the vector field in the last attempted step."""
        return solver_state.spent

    def refused(self, before: StabilisedState, tried: StabilisedState) -> StabilisedState:
        """The state to try again from: what was learnt of the radius is kept.

        If the estimate was an old one, a new one is made.
        """
        here = before.here | (tried.since == tried.stages)
        return eqx.tree_at(
            lambda s: (s.radius, s.memory, s.noise, s.since, s.price, s.here),
            before,
            (
                tried.radius,
                tried.memory,
                tried.noise,
                jnp.where(here, tried.since, jnp.iinfo(jnp.int32).max // 2),
                tried.price,
                here,
            ),
        )

    def longest_step(self, solver_state: StabilisedState) -> Float[Array, ""]:
        """The longest step that `max_stages` keep stable, as far as is known."""
        return 0.95 * float(self.coefficients.interval[-1]) / solver_state.radius

    def init(self, terms: diffrax.AbstractTerm, t0, t1, y0: PyTree, args) -> StabilisedState:
        """The slope at the start; no estimate of the radius yet."""
        del t1
        dtype = jax.tree.leaves(y0)[0].dtype
        slope = vector_field(terms, t0, y0, args)
        zero = jnp.zeros((), jnp.int32)
        return StabilisedState(
            slope=slope,
            radius=jnp.zeros((), dtype),
            memory=self.spectral_radius.init(self.measured(y0)),
            noise=jnp.zeros((), dtype),
            since=zero,
            price=zero,
            here=jnp.asarray(False),
            stages=zero,
            spent=zero,
        )

    def step(
        self,
        terms: diffrax.AbstractTerm,
        t0,
        t1,
        y0: PyTree,
        args,
        solver_state: StabilisedState,
        made_jump,
    ):
        """One step; see `diffrax.AbstractSolver.step`."""
        f0, refreshed = solver_state.slope, jnp.zeros((), jnp.int32)
        due = solver_state.since >= _THRIFT * solver_state.price
        if made_jump is not False:
            f0 = jax.lax.cond(made_jump, lambda: vector_field(terms, t0, y0, args), lambda: f0)
            refreshed = jnp.asarray(made_jump).astype(jnp.int32)
            due = due | made_jump
        old = solver_state
        radius, memory, noise, price = only_if(
            due,
            lambda: self._estimate(Point.of(terms, t0, y0, f0, args, self.measured), old),
            (old.radius, old.memory, old.noise, old.price),
        )
        h = jnp.asarray(t1 - t0).astype(radius.dtype)
        interval = jnp.asarray(self.coefficients.interval, radius.dtype)
        row = jnp.searchsorted(interval, h * radius)
        # Of no step is the radius NaN or too large; nothing is evaluated, and it is refused.
        possible = h * radius <= interval[-1]
        stages = jnp.where(possible, row + 2, 0).astype(jnp.int32)
        row = jnp.minimum(row, interval.size - 1)
        made = self._stages(terms, t0, h, y0, f0, args, stages, row)
        increment, f1 = eqxi.nondifferentiable_backward(made, msg=_REVERSE_MODE)
        y1 = jax.tree.map(lambda y, d: y + d, y0, increment)
        weight = jnp.asarray(self.coefficients.error, h.dtype)[row]
        error = jax.tree.map(lambda d, a, b: weight * (h / 2 * (a + b) - d), increment, f0, f1)
        noise_seen = _ROUNDING * jnp.sqrt(stages.astype(h.dtype)) * weight * h / 2 * noise
        seen = _without(noise_seen, tree_norm(self.measured(error)))
        error = jax.tree.map(lambda e: jnp.where(possible, seen * e, jnp.inf), error)
        spent = stages + refreshed + jnp.where(due, price, 0)
        dense = {"y0": y0, "slopes": (f0, f1, tree_scale(1 / h, increment))}
        state = StabilisedState(
            slope=f1,
            radius=radius,
            memory=memory,
            noise=noise,
            since=stages + jnp.where(due, 0, solver_state.since),
            price=price,
            here=jnp.asarray(False),
            stages=stages,
            spent=spent,
        )
        return y1, error, dense, state, diffrax.RESULTS.successful

    def _estimate(self, point: Point, state: StabilisedState):
        radius, memory, price = self.spectral_radius.estimate(point, state.memory)
        # In float32 the stiff noise of rounding is soon all that the error estimate would see.
        rounded = jax.tree.map(
            lambda y: y * (1 + jnp.finfo(y.dtype).eps * _signs(y.shape, y.dtype)), point.part
        )
        noise = tree_norm(tree_sub(point.field(rounded), point.slope))
        dtype = state.radius.dtype
        found = radius.astype(dtype), memory, noise.astype(dtype)
        # That a step depends on the radius at all is its error, and no business of a tangent.
        return *jax.lax.stop_gradient(found), price + 1

    def _stages(self, terms, t0, h, y0, f0, args, stages, row) -> tuple[PyTree, PyTree]:
        """The increment over the step and the slope at its end: `stages` evaluations."""
        dtype = h.dtype
        delta = jnp.asarray(self.damping, dtype) / jnp.square(stages.astype(dtype))
        delta = jnp.where(stages > 0, delta, 0)
        w1 = jnp.asarray(self.coefficients.w1, dtype)[row]
        two = jnp.asarray(2, dtype)
        b1 = 1 / (2 * (1 + self.beta(two)) * jnp.square(1 + delta))
        one, zero = jnp.ones((), dtype), jnp.zeros((), dtype)
        recurrence = _Recurrence(
            p=1 + delta, p1=one, p2=zero, dp=delta, dp1=one, dp2=zero, b=b1, b_last=b1
        )
        # Y_1 = y_0 + c_1 h F_0 with c_1 = b_1 w_1. In the recurrence the last increment over y_0
        # and its change are both written where they were; two increments would change places, at
        # the price of three copies in every stage. The slope is that of the last stage made.
        first = tree_scale(b1 * w1 * h, f0)
        carry = (two, first, first, f0, b1 * w1, recurrence)

        def going(carry):
            return carry[0] <= stages.astype(dtype) + 1

        def stage(carry):
            j, d, change, _, c, last = carry
            slope = vector_field(
                terms, t0 + (c * h).astype(jnp.result_type(t0)), tree_axpy(one, d, y0), args
            )
            # The round after the last stage only evaluates the slope at its end.
            over = j > stages.astype(dtype)
            beta = self.beta(j)
            new = last.advance(beta, delta)
            ratio = (1 + beta) * new.b / last.b
            mu = jnp.where(over, 1, ratio * (1 + delta))
            nu = jnp.where(over, 0, -beta * new.b / last.b_last)
            mu_h = jnp.where(over, 0, ratio * w1 * h)
            gamma_h = -(1 - last.b * last.p) * mu_h
            change = jax.tree.map(
                lambda d, change, f, f0: (
                    (mu + nu - 1) * d - nu * change + (mu_h * f + gamma_h * f0)
                ),
                d,
                change,
                slope,
                f0,
            )
            # Or it would be computed twice, from its old value, of which a copy must be kept.
            change = jax.lax.optimization_barrier(change)
            return j + 1, tree_axpy(one, change, d), change, slope, w1 * new.p2 / new.p1, new

        _, increment, _, f1, _, _ = jax.lax.while_loop(going, stage, carry)
        return increment, f1


def _signs(shape: tuple[int, ...], dtype: Any) -> Array:
    return jax.random.rademacher(jax.random.key(0), shape, dtype)


def _without(noise: Float[Array, ""], size: Float[Array, ""]) -> Float[Array, ""]:
    """The share of `size` that is left without noise of that size in a random direction."""
    return jnp.sqrt(jnp.maximum(1 - jnp.square(noise / positive(size)), _BLIND**2))


class _Recurrence(eqx.Module):
    """P_j, P'_j and P''_j at w0, their increases over j - 1, and b_j and b_{j-1}.

    Increases of increases are added up, all of one sign: nothing cancels, in float32 either.
    """

    p: Array
    p1: Array
    p2: Array
    dp: Array
    dp1: Array
    dp2: Array
    b: Array
    b_last: Array

    def advance(self, beta, delta) -> _Recurrence:
        """From j - 1 to j."""
        dp = beta * self.dp + (1 + beta) * delta * self.p
        dp1 = beta * self.dp1 + (1 + beta) * (self.p + delta * self.p1)
        dp2 = beta * self.dp2 + (1 + beta) * (2 * self.p1 + delta * self.p2)
        p1, p2 = self.p1 + dp1, self.p2 + dp2
        return _Recurrence(self.p + dp, p1, p2, dp, dp1, dp2, p2 / jnp.square(p1), self.b)


@functools.lru_cache(maxsize=16)
def _tabulate(beta: Any, damping: float, max_stages: int) -> Coefficients:
    """P_s and its derivatives at w0 for every s at once, one j after the other."""
    s = np.arange(2, max_stages + 1)
    w0 = 1 + damping / s**2
    # Row i holds the i-th derivative of P_j, column by column for each s.
    before = np.stack([np.ones_like(w0), *np.zeros((3, s.size))])
    last = np.stack([w0, np.ones_like(w0), *np.zeros((2, s.size))])
    found = np.empty_like(last)
    degree = np.arange(4)[:, None]
    for j in range(2, max_stages + 1):
        lower = np.concatenate([np.zeros((1, s.size)), last[:-1]])
        last, before = (1 + beta(j)) * (w0 * last + degree * lower) - beta(j) * before, last
        found[:, s == j] = last[:, s == j]
    _, p1, p2, p3 = found
    w1 = p1 / p2
    own = 1 / 6 - p1 * p3 / (6 * p2**2)
    return Coefficients(w1, (w0 + 1) / w1, own / (1 / 12 + own))
