"""Of what type a critical point is: the eigenvalues of the Hessian there."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import _spectral
from .continuation import ConjugateGradients
from .landscape import Landscape, Look, Spectrum, distance, hessian, newton_step, spectrum

WHOLE = 2000  # parameters up to which all eigenvalues are computed
_STEPS = 60  # of Lanczos' method beyond that
_LEFT = 0.1  # of the gradient, by the last step of conjugate gradients
_DIFFERENCE_STEPS = 10  # and for the norm of a difference of two Hessians


class Curvature(NamedTuple):
    """The Hessian at a critical point.

    Attributes:
        eigenvalues: descending; all of them, or the Ritz values of Lanczos' method.
        residuals: within this distance of each lies an eigenvalue.
        threshold: what an eigenvalue must exceed to be told from zero; see `curvature`.
        left: the length of the step of Newton's method that is left.
        whole: the Hessian taken apart, where it was formed.
        evaluations: gradient evaluations spent.
    """

    eigenvalues: np.ndarray
    residuals: np.ndarray
    threshold: float
    left: float
    whole: Spectrum | None
    evaluations: int

    @property
    def index(self) -> int:
        """How many eigenvalues are negative; at least so many where they are Ritz values."""
        return int(np.sum(self.eigenvalues < -self.threshold))

    @property
    def flat(self) -> int | None:
        """How many cannot be told from zero; ``None`` where not all are known."""
        if self.whole is None:
            return None
        return int(np.sum(np.abs(self.eigenvalues) <= self.threshold))

    @property
    def type(self) -> str:
        """As `CriticalPoint.type` has it, of a point where the gradient vanishes."""
        if self.index == 0:
            if self.flat is None:
                return "minimum or degenerate"
            return "degenerate minimum" if self.flat else "minimum"
        if self.flat is None:
            return "saddle"
        if self.index == len(self.eigenvalues):
            return "maximum"
        return "degenerate saddle" if self.flat else "saddle"


def curvature(landscape: Landscape, x: Float[Array, " n"], here: Look) -> Curvature:
    """The eigenvalues of the Hessian at `x`, and which of them are zero as far as can be told.

    Zero is told from non-zero by Kantorovich's theorem: a critical point with an eigenvalue
    lambda exists where |lambda| is above twice what the Hessian changes by along the step of
    Newton's method that is left. To this the threshold adds twice what rounding may do. A
    direction that is only very flat, and no part of a manifold of critical points, is called
    flat as well where it lies below. The step goes along as many directions, from the steepest
    on, as can be had so that each of them passes.

    The index that Lanczos' method finds is a lower bound: Ritz values lie inside the spectrum, so
    that at least as many eigenvalues lie below any number (Cauchy's interlacing theorem).

    Args:
        landscape: the loss.
        x: the point.
        here: the loss and the gradient there.
    """
    if x.size <= WHOLE:
        return _whole(landscape, x, here)
    values, residuals = (np.asarray(part, float) for part in _extremes(landscape, x))
    rounding = x.size * float(jnp.finfo(x.dtype).eps) * float(np.max(np.abs(values)))
    step = ConjugateGradients(landscape)(x, here, rounding, _LEFT * float(here.norm))
    threshold = 2 * (rounding + float(_change(landscape, x, step.step)))
    spent = step.evaluations + 3 + 2 * _STEPS + 4 * _DIFFERENCE_STEPS
    return Curvature(values, residuals, threshold, distance(step.step, 0), None, spent)


def _whole(landscape: Landscape, x: Float[Array, " n"], here: Look) -> Curvature:
    """The same by all eigenvalues."""
    whole = spectrum(landscape, x)
    rounding, spent = float(whole.rounding), 2 * x.size + 1
    sizes = np.sort(np.abs(np.asarray(whole.values, float)))[::-1]

    def left(count: int) -> tuple[float, float]:
        """The threshold, and the length of the step along so many of the steepest directions."""
        least = np.asarray(sizes[count] if count < len(sizes) else 0, x.dtype)
        step = newton_step(whole, here.gradient, np.zeros_like(least), least)
        change = distance(hessian(landscape, x + step), whole.matrix)
        return 2 * (rounding + change), distance(step, 0)

    # Of so many directions some pass and some may; most often all of these do.
    passing, failing = 0, int(np.sum(sizes > 2 * rounding)) + 1
    # Without any curvature a slope has no end.
    threshold, length = 2 * rounding, 0.0 if float(here.norm) == 0 else np.inf
    count = failing - 1
    measured = count == 0
    while count > passing or not measured:
        limit, this = left(count)
        spent += 2 * x.size + 1
        if count == 0 or sizes[count - 1] > limit:
            passing, threshold, length, measured = count, limit, this, True
        else:
            failing = count
        count = (passing + failing) // 2
    # What did not pass is not to be told from zero, however large it is.
    threshold = max(threshold, sizes[passing]) if passing < len(sizes) else threshold
    values = np.asarray(whole.values, float)[::-1]
    return Curvature(values, np.full(values.shape, rounding), threshold, length, whole, spent)


@eqx.filter_jit
def _extremes(landscape: Landscape, x: Float[Array, " n"]):
    """Ritz values of the Hessian and their residuals."""
    start, noise = _directions(x)
    ritz = _spectral.lanczos(landscape.hessian(x), start, noise, _STEPS)
    return ritz.values, ritz.residuals


@eqx.filter_jit
def _change(landscape: Landscape, x: Float[Array, " n"], step: Float[Array, " n"]):
    """The norm of what the Hessian changes by along `step`."""
    here, there = landscape.hessian(x), landscape.hessian(x + step)
    ritz = _spectral.lanczos(lambda v: there(v) - here(v), *_directions(x), _DIFFERENCE_STEPS)
    return jnp.max(jnp.abs(ritz.values))


def _directions(x: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Two random ones."""
    one, other = (_spectral.direction(jax.random.key(seed), x) for seed in range(2))
    return one, other
