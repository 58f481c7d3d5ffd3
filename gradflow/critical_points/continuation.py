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

from ..solvers.conjugate_gradients import conjugate_gradients
from .landscape import Landscape, Look, Spectrum, look, newton_step, spectrum

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
    damped: Callable = lambda v: product(v) + damping * v  # noqa: E731
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
    here = look(landscape, x)
    eps = float(jnp.finfo(x.dtype).eps)
    first = norm = float(here.norm)
    steps, idle, spent, damping, stopped = 0, 0, 1, 0.0, ""
    stride, receding = 0.0, False  # the last step's length where it was Newton's
    if norm > gradient_norm:
        # The curvature along the gradient: the time in which the flow's first leg is over.
        damping = abs(float(_curvature(landscape, x, here.gradient)))
        spent += 1 + _HESSIAN_VECTOR
    least = eps * damping
    while norm > gradient_norm:
        if idle == _IDLE:
            stopped = "rounding"
        elif steps == max_steps:
            stopped = "max_steps"
        elif cancelled():
            stopped = "cancelled"
        if stopped:
            break
        # Superlinear convergence, and no digits of the last step beyond those asked for.
        forcing = min(_FORCING, (norm / first) ** 0.5)
        step, definite, evaluations = linear(
            x, here, damping, max(forcing * norm, gradient_norm / 4)
        )
        there = look(landscape, x + step)
        steps, spent = steps + 1, spent + evaluations + 1
        # For a solution of the linear equations, and for any iterate of conjugate gradients.
        slope, square = float(jnp.vdot(here.gradient, step)), float(jnp.vdot(step, step))
        predicted = (damping * square - slope) / 2
        gained = float(here.loss - there.loss)
        noise = _ROUNDINGS * eps * abs(float(here.loss))
        fine = definite and np.isfinite(float(there.norm))
        if predicted > noise:
            share = gained / predicted if fine else -np.inf
            told, idle = True, 0
        else:
            share = 1.0 if fine and there.norm < norm and gained >= -noise else -np.inf
            told = False
        accepted, tried = share >= _ACCEPTED, damping
        idle += not told and not (accepted and there.norm <= _FALL * norm)
        if not accepted:
            damping = max(_SHORTER * damping, least)
        elif share < _FAIR:
            damping *= _SHORTER
        elif share > _GOOD:
            damping = max(damping / _LONGER, least)
        if accepted:
            undamped = tried <= _UNDAMPED * (-slope / square - tried)
            length = square**0.5 if undamped else 0.0
            receding = 0 < _RECEDING * stride <= length
            stride = length
            x, here, norm = x + step, there, float(there.norm)
    return Found(x, here, steps, spent, stopped, receding)


@eqx.filter_jit
def _curvature(landscape: Landscape, x: Float[Array, " n"], v: Float[Array, " n"]):
    return jnp.vdot(v, landscape.hessian(x)(v)) / jnp.vdot(v, v)
