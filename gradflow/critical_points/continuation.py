"""From the end of a flow to the critical point it tends to, by ever longer implicit steps.

The step -(H + mu)^-1 grad L is one of the linearly implicit Euler method along the flow, of length
1/mu: short ones follow the flow, infinite ones are Newton's method. Between the two lies
pseudo-transient continuation (Kelley & Keyes, SIAM J. Numer. Anal. 35, 1998, 508-523), which ends
where the flow ends, as long as the steps are short enough on the way. A step is refused where the
implicit method is near its pole, 1 + lambda/mu < 1/2 for an eigenvalue lambda, and where it does
not bring the loss down as its quadratic model has it. So nothing climbs: to a saddle goes only
what came down along its stable manifold.

Where differences of the loss drown in its rounding, the gradient's norm says whether a step was
good, and the loss only that it has not risen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._devices import anywhere
from ..solvers.conjugate_gradients import conjugate_gradients
from .landscape import Landscape, Look, Spectrum, distance, look, newton_step, spectrum

_POLE = 0.5  # the least 1 + lambda/mu of a step
_LONGER, _SHORTER = 10.0, 4.0
# Shares of the predicted decrease of the loss: to be accepted, to go on alike, to go on longer.
_ACCEPTED, _FAIR, _GOOD = 1e-3, 0.25, 0.75
_FORCING = 0.1  # of the gradient, what is left of the linear equations at most
_ROUNDINGS = 64  # of the loss, below which its differences say nothing
_IDLE = 20  # steps in which the gradient may fail to fall by much before no more is to be had
_FALL = 0.7  # what is much
_UNDAMPED = 0.1  # of the curvature along a step, the damping that leaves it one of Newton's
_RECEDING = 0.9  # of a step of Newton's, the length of the next where there is no end to them
_HESSIAN_VECTOR = 2  # gradient evaluations


class Step(NamedTuple):
    """A step that is to be tried.

    Attributes:
        step: from the point.
        definite: whether it stays clear of the pole.
        evaluations: gradient evaluations spent.
    """

    step: Float[Array, " n"]
    definite: bool
    evaluations: int


class Linear(Protocol):
    """Solves (H + damping) step = -gradient, as far as a residual of norm `target`."""

    def __call__(self, x: Float[Array, " n"], here: Look, damping: float, target: float) -> Step:
        """The step from `x`."""
        ...


class ConjugateGradients:
    """By conjugate gradients on Hessian-vector products, for any number of parameters."""

    def __init__(self, landscape: Landscape):
        self._landscape = landscape

    def __call__(self, x: Float[Array, " n"], here: Look, damping: float, target: float) -> Step:
        """The step; see `Linear`."""
        numbers = (jax.device_put(np.asarray(number, x.dtype)) for number in (damping, target))
        step, products, definite = _conjugate_gradients(self._landscape, x, here.gradient, *numbers)
        return Step(step, bool(definite), 1 + _HESSIAN_VECTOR * int(products))


class Dense:
    """By all eigenvalues of the Hessian, which is formed once for each point."""

    def __init__(self, landscape: Landscape):
        self._landscape = landscape
        self._at: tuple[Float[Array, " n"], Spectrum] | None = None

    def __call__(self, x: Float[Array, " n"], here: Look, damping: float, target: float) -> Step:
        """The step; see `Linear`. It is exact, whatever the target."""
        del target
        spent = 0
        if self._at is None or self._at[0] is not x:
            self._at = x, spectrum(self._landscape, x)
            spent = 1 + _HESSIAN_VECTOR * x.size
        whole = self._at[1]
        step, least = _newton_step(whole, here.gradient, np.asarray(damping, x.dtype))
        return Step(step, float(least) > -_POLE * damping, spent)


@eqx.filter_jit
def _conjugate_gradients(
    landscape: Landscape,
    x: Float[Array, " n"],
    gradient: Float[Array, " n"],
    damping: Float[Array, ""],
    target: Float[Array, ""],
):
    product = landscape.hessian(x)

    def damped(v: Array) -> Array:
        return product(v) + damping * v

    return conjugate_gradients(damped, -gradient, target, _POLE * damping)


@jax.jit
def _newton_step(spectrum: Spectrum, gradient: Float[Array, " n"], damping: Float[Array, ""]):
    """The step, and the least curvature of the directions that the gradient has a part in."""
    rounding = _ROUNDINGS * jnp.finfo(gradient.dtype).eps * jnp.linalg.norm(gradient)
    excited = jnp.abs(spectrum.vectors.T @ gradient) > rounding
    seen = excited & (jnp.abs(spectrum.values) > spectrum.rounding)
    least = jnp.min(jnp.where(seen, spectrum.values, jnp.inf))
    return newton_step(spectrum, gradient, damping, spectrum.rounding), least


class Found(NamedTuple):
    """Where the continuation has come to.

    Attributes:
        x: the point.
        look: the loss and the gradient there.
        steps: tried.
        evaluations: gradient evaluations spent.
        stopped: what kept it from the gradient's norm: ``"rounding"``, ``"max_steps"`` or
            ``"cancelled"``; empty where that is reached.
        receding: whether the last steps were Newton's own and became no shorter, as they do on
            the way to infinity: to exp(-x) = 0 all have length 1, to x^p = 0 each is p - 1 over
            p times the last.
    """

    x: Float[Array, " n"]
    look: Look
    steps: int
    evaluations: int
    stopped: str
    receding: bool


def continuation(
    landscape: Landscape,
    x: Float[Array, " n"],
    linear: Linear,
    gradient_norm: float,
    max_steps: int,
    cancelled: Callable[[], bool],
) -> Found:
    """Follow the flow from `x`, by ever longer steps, until the gradient's norm is reached."""
    here, spent = look(landscape, x), 1
    first, steps, idle, stopped = float(here.norm), 0, 0, ""
    stride, receding = 0.0, False  # the last step's length where it was Newton's
    damping = 0.0
    if first > gradient_norm:
        # The curvature along the gradient: the time in which the flow's first leg is over.
        damping, spent = abs(float(_curvature(landscape, x, here.gradient))), 2 + _HESSIAN_VECTOR
    # Where there is none, the time in which the flow comes as far as the parameters reach.
    reach = distance(x, 0) or 1.0
    damping = damping or first / reach
    eps = float(jnp.finfo(x.dtype).eps)
    while (norm := float(here.norm)) > gradient_norm:
        if idle == _IDLE:
            stopped = "rounding"
        elif steps == max_steps:
            stopped = "max_steps"
        elif anywhere(cancelled()):
            stopped = "cancelled"
        if stopped:
            break
        # Superlinear convergence, and no digits of the last step beyond those asked for.
        target = max(min(_FORCING, (norm / first) ** 0.5) * norm, gradient_norm / 4)
        step = linear(x, here, damping, target)
        there = look(landscape, x + step.step)
        steps, spent = steps + 1, spent + step.evaluations + 1
        trial = _judge(here, there, step, damping, _ROUNDINGS * eps)
        better = trial.share >= _ACCEPTED and float(there.norm) <= _FALL * norm
        idle = 0 if trial.told or better else idle + 1
        if trial.share >= _ACCEPTED:
            length = trial.length if damping <= _UNDAMPED * trial.curvature else 0.0
            going = length > eps**0.5 * distance(x, 0)
            receding, stride = going and 0 < _RECEDING * stride <= length, length
            x, here = x + step.step, there
        # Of the curvature here: on the way to infinity it falls below any share of the first.
        least = eps * max(abs(trial.curvature), norm / reach)
        if trial.share < _FAIR:
            damping = max(_SHORTER * damping, least)
        elif trial.share > _GOOD:
            damping = max(damping / _LONGER, least)
    return Found(x, here, steps, spent, stopped, receding)


class _Trial(NamedTuple):
    """What came of a step.

    Attributes:
        share: of the decrease of the loss that was predicted, what came true.
        told: whether values of the loss could tell.
        length: of the step.
        curvature: along it.
    """

    share: float
    told: bool
    length: float
    curvature: float


def _judge(here: Look, there: Look, step: Step, damping: float, rounding: float) -> _Trial:
    p, gradient = np.asarray(step.step, float), np.asarray(here.gradient, float)
    slope, square = float(gradient @ p), float(p @ p)
    # For a solution of the linear equations, and for any iterate of conjugate gradients.
    curvature = -slope / square - damping if square else 0.0
    predicted = (damping * square - slope) / 2
    gained, noise = float(here.loss) - float(there.loss), rounding * abs(float(here.loss))
    told = predicted > noise
    if not step.definite or not np.isfinite([float(there.loss), float(there.norm)]).all():
        share = -np.inf
    elif told:
        share = gained / predicted
    else:
        share = 1.0 if float(there.norm) < float(here.norm) and gained >= -noise else -np.inf
    return _Trial(share, told, square**0.5, curvature)


@eqx.filter_jit
def _curvature(landscape: Landscape, x: Float[Array, " n"], v: Float[Array, " n"]):
    return jnp.vdot(v, landscape.hessian(x)(v)) / jnp.vdot(v, v)
