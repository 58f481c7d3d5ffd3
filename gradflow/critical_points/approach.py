"""Whether a flow goes to a critical point, and by when."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from .. import _spectral
from ..flow import FAILURES, solve
from ..problem import Problem
from ..save_times import Linear as Evenly
from .continuation import Found, Linear, continuation
from .curvature import Curvature
from .landscape import Landscape, Look, distance, look
from .spec import Polish

_STEPS = 60  # of Lanczos' method, where the Hessian was not formed
_AGREEMENT = 0.2  # of the offset, and of the late gradient, by which the flow may be non-linear
_NEARER = 0.5  # of the distance, after which the flow counts as heading there
_AIM = 0.1  # and the share of it that is aimed at
# The flow goes on for a time, then for twice that, and so on, so often.
_LEGS, _LONGER = 14, 2.0
_ROWS = Evenly()  # as many as of any run, for which the flow is compiled already
_RTOL, _MAX_STEPS = 1e-3, 500
_RESOLVED = 20 * _RTOL  # of the distance, where the flow's own error says little of the offset
_STIFFEST = 1e9  # sharpness times time that the flow is followed for: its root is what it costs
_ELSEWHERE = 0.1  # of the distance of another minimum from the point, that of the flow from it
_ALONG = 0.1  # of the distance, by which a limit on a manifold of minima may lie beside the point


class Modes(NamedTuple):
    """The flow near a critical point, where each of them decays as exp(-rate t).

    Attributes:
        rates: eigenvalues of the Hessian, of the directions that are not flat.
        offsets: from the critical point, along each.
        gradients: along each; rate times offset where the flow is linear.
        flat: the norm of the gradient along the directions that are, beyond its rounding.
    """

    rates: np.ndarray
    offsets: np.ndarray
    gradients: np.ndarray
    flat: float

    def when(self, amplitudes: np.ndarray, share: float, norm: float) -> float | None:
        """When a vector of these modes gets to a `share` of its norm, or to `norm` if larger.

        ``None`` where something grows, or nothing is there to decay.
        """
        now = float(np.linalg.norm(amplitudes))
        if not now or self.rates.min() <= 0:
            return None
        goal = max(share * now, norm)
        if now <= goal:
            return 0.0

        def excess(time: float) -> float:
            left = np.linalg.norm(amplitudes * np.exp(-self.rates * time))
            return float(np.log(max(left, np.finfo(float).tiny) / goal))

        from scipy.optimize import brentq  # which takes a tenth of a second to import

        # Twice the latest that it can be: where all rates are one, that is the time itself.
        return cast(float, brentq(excess, 0.0, 2 * np.log(now / goal) / self.rates.min()))

    @property
    def linear(self) -> bool:
        """Whether the offset is what the gradient says of it."""
        missed = np.linalg.norm(self.gradients / self.rates - self.offsets)
        return bool(missed <= _AGREEMENT * np.linalg.norm(self.offsets))

    def rate(self, time: float) -> float:
        """Of the decay of the gradient's norm at `time`."""
        left = (self.rates * self.offsets * np.exp(-self.rates * time)) ** 2
        return float(np.sum(self.rates * left) / np.sum(left))


class Approach:
    """How a flow comes to a critical point.

    Args:
        problem: whose flow it is.
        landscape: its loss.
        linear: takes the steps from the flow to whatever critical point is near.
        x: the critical point.
        curvature: there.
        spec: how that was found.
        cancelled: asked now and then whether to end.

    Attributes:
        evaluations: gradient evaluations spent.
    """

    def __init__(
        self,
        problem: Problem,
        landscape: Landscape,
        linear: Linear,
        x: Float[Array, " n"],
        curvature: Curvature,
        spec: Polish,
        cancelled: Callable[[], bool],
    ):
        self._problem = problem.quiet()
        self._landscape, self._linear, self._x = landscape, linear, x
        self._curvature, self._spec, self._cancelled = curvature, spec, cancelled
        self._passed: list[tuple[float, Modes]] = []
        self._resolved = True  # whether the last of these is far enough for the flow's tolerance
        self.evaluations = 0

    def heading(self, start: Float[Array, " n"], here: Look) -> bool | None:
        """Whether the flow from `start` goes to the point: it is followed until that shows.

        The first leg is as long as its modes near the point need for a tenth of the distance, or
        as the speed at `start` would need for all of it. Yes, once the distance has halved and
        implicit steps from there come back to the point, or, where it has flat directions, within
        a tenth of the distance of it; no, once another minimum lies so much nearer to the flow
        that it has a tenth of the way to it that the point has; ``None`` where following it costs
        too much.

        To a saddle goes only its stable manifold. So ``None`` as well where the offset along a
        direction that grows is not zero to rounding: that manifold may be curved.
        """
        whole = self._distance(start)
        if whole == 0 or float(here.norm) == 0:
            return whole == 0
        saddle = self._curvature.index > 0
        if saddle and self._grows(start):
            return None
        modes, time, at = self._modes(start, here), 0.0, start
        self._passed = [(0.0, modes)]
        linear = modes.when(modes.offsets, _AIM, 0.0) or 0.0
        leg = max(linear, whole / float(here.norm))
        sharpest = float(np.max(np.abs(self._curvature.eigenvalues)))
        for _ in range(_LEGS):
            if sharpest * leg > _STIFFEST:
                return None
            flow = solve(
                eqx.tree_at(lambda p: p.params, self._problem, self._landscape.unravel(at)),
                t1=leg, rtol=_RTOL, save=_ROWS, max_steps=_MAX_STEPS,
                cancelled=self._cancelled,
            )  # fmt: skip
            self.evaluations += flow.stats["gradient_evaluations"]
            if flow.result in FAILURES or flow.result == "cancelled":
                return None
            at = self._landscape.ravel(flow.final_params)
            time, leg = time + leg, _LONGER * leg
            found = continuation(
                self._landscape, at, self._linear, self._spec.gradient_norm,
                self._spec.max_steps, self._cancelled,
            )  # fmt: skip
            self.evaluations += found.evaluations
            if self._distance(at) <= _NEARER * whole and self._same(found, whole):
                self._passed.append((time, self._modes(at, look(self._landscape, at))))
                self.evaluations += 1
                self._resolved = self._distance(at) >= _RESOLVED * whole
                return True
            minimum = not found.receding and found.stopped in ("", "rounding")
            if minimum and distance(found.x, at) <= _ELSEWHERE * self._distance(found.x):
                return None if saddle else False
        return None

    def t_infinity(self) -> tuple[float, float] | None:
        """When, after the start, the gradient's norm is what was asked for; and its rate then.

        Found from the offset, as if the flow were linear, and from the gradient, as if it were:
        ``None`` where the two do not agree, neither at the start nor where the flow was followed
        to; and where what the gradient has along flat directions falls less than the offset does,
        or was not seen to fall. Along a manifold of minima it falls as the offset's square, at a
        minimum of higher order by a power of time.
        """
        goal = self._spec.gradient_norm
        if len(self._passed) == 1 and self._passed[0][1].flat > goal:
            return None
        if len(self._passed) > 1 and len(self._passed[0][1].rates):
            (_, first), (_, last) = self._passed
            fallen = np.linalg.norm(last.offsets) / np.linalg.norm(first.offsets)
            if last.flat > max(goal, fallen * first.flat):
                return None
        for passed, modes in self._passed:
            first = modes.when(modes.rates * modes.offsets, 0.0, goal)
            second = modes.when(modes.gradients, 0.0, goal)
            # What is there at once may have been so for long, but at the start.
            late = passed > 0 and (first == 0 or not self._resolved)
            if first is None or second is None or late or not modes.linear:
                continue
            rate = modes.rate(first)
            if abs(first - second) * rate <= _AGREEMENT:
                return passed + first, rate
        return None

    def _distance(self, at: Float[Array, " n"]) -> float:
        return distance(at, self._x)

    def _same(self, found: Found, whole: float) -> bool:
        """Whether implicit steps from the flow, which was `whole` away, found the point again."""
        if self._curvature.flat != 0:
            allowed = _ALONG * whole
        else:  # as far as rounding and the gradients that are left may take the two apart
            left = float(found.look.norm) / np.min(np.abs(self._curvature.eigenvalues))
            eps = float(np.finfo(self._x.dtype).eps)
            allowed = 2 * (left + self._curvature.left) + eps**0.5 * distance(self._x, 0)
        return not found.receding and self._distance(found.x) <= allowed

    def _grows(self, start: Float[Array, " n"]) -> bool:
        """Whether `start` has an offset from a saddle along the directions that grow."""
        rates, vectors = self._directions(start - self._x)
        here = look(self._landscape, self._x)
        self.evaluations += 1
        offset = np.asarray(start, float) - np.asarray(self._x, float)
        # From the saddle itself, not from the point that a gradient of zero to rounding is at.
        offsets = vectors @ offset + (vectors @ np.asarray(here.gradient, float)) / rates
        rounding = start.size * float(np.finfo(start.dtype).eps)
        known = rounding * (distance(start, 0) + distance(self._x, 0))
        return bool(np.linalg.norm(offsets[rates < 0]) > known)

    def _directions(self, offset: Float[Array, " n"]) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues that are not flat, and a row for the eigenvector of each."""
        whole = self._curvature.whole
        if whole is not None:
            values, vectors = whole.values, whole.vectors.T
        else:
            values, vectors = _excited(self._landscape, self._x, offset)
            self.evaluations += 1 + 2 * _STEPS
        seen = np.abs(values) > self._curvature.threshold
        return np.asarray(values, float)[seen], np.asarray(vectors, float)[seen]

    def _modes(self, at: Float[Array, " n"], here: Look) -> Modes:
        offset = at - self._x
        rates, vectors = self._directions(offset)
        gradient = np.asarray(here.gradient, float)
        gradients = vectors @ gradient
        known = at.size * float(np.finfo(at.dtype).eps) * float(here.norm)
        flat = max(float(np.linalg.norm(gradient - gradients @ vectors)) - known, 0.0)
        return Modes(rates, vectors @ np.asarray(offset, float), gradients, flat)


@eqx.filter_jit
def _excited(landscape: Landscape, x: Float[Array, " n"], offset: Float[Array, " n"]):
    """Ritz values and vectors of the Krylov space of `offset`."""
    noise = _spectral.direction(jax.random.key(0), x)
    ritz = _spectral.lanczos(landscape.hessian(x), offset, noise, min(_STEPS, x.size))
    return ritz.values, ritz.vectors
