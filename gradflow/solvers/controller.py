"""Step sizes such that `rtol` bounds the error of the trajectory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from .._linalg import positive, tree_axpy, tree_norm, tree_sub


def whole_state(state: PyTree) -> PyTree:
    """The part of the state that is measured, when all of it is."""
    return state


# Of the noise that an explicit method left behind, from one step to the next.
_FADING = 0.5


class DistanceState(NamedTuple):
    """What the controller remembers of the last steps."""

    origin: PyTree  # None where the controller itself knows it
    last_ratio: Float[Array, ""]
    rejected: Bool[Array, ""]
    credit: Float[Array, ""]  # share of the distance travelled that a step may err by, times rtol


class DistanceController(diffrax.AbstractAdaptiveStepSizeController):
    """Accepts a step when |error estimate|_2 <= rtol |y - y_0|_2, the distance travelled.

    The trajectory's error at t is |y(t) - exact|_2 / |exact - y_0|_2, so a step's own error is
    weighed in the units in which the whole error is. A norm that weighs each entry against its
    own size and averages, as is usual, lets a vector of N entries err sqrt(N) times more, and
    against |y| instead of the distance travelled from a random initialisation.

    That serves methods that go on with a solution of higher order than their estimate: the sum of
    all their errors falls in proportion to `rtol`. A method that goes on with the solution whose
    error it estimates gets an allowance per length of path, |error estimate|_2 <= rtol |y_1 - y|_2
    for the step from y to y_1, without which the error of a second-order method falls as
    rtol^(2/3) only. The errors of all steps then sum up to rtol times the length of the path.
    Where h / t of the distance travelled is longer than the step from y to y_1, that counts in its
    place: the steps of a flow that has all but come to rest go on growing, and a factor e of time
    adds rtol at most.

    The step size follows a proportional-integral law (Gustafsson 1991; Hairer & Wanner 1996,
    IV.2), h *= 0.9 r^(-0.7/k) r_last^(0.4/k) with r the ratio of error to tolerance and k the
    order of the error estimate, one less where the allowance falls with the step.

    Attributes:
        rtol: the tolerance.
        origin: where the distance is measured from, in the structure that `position` returns;
            the first state when ``None``, which costs a copy of it in the controller's state.
        measured: selects the part of the state whose error counts.
        extrapolates: whether the solution is of higher order than the error estimate.
        position: selects the part whose distance counts; what is measured when ``None``.

    >>> import diffrax, jax.numpy as jnp
    >>> import gradflow as gf
    >>> solution = diffrax.diffeqsolve(
    ...     diffrax.ODETerm(lambda t, y, args: -y),
    ...     diffrax.Tsit5(), t0=0.0, t1=1.0, dt0=None, y0=jnp.ones(4),
    ...     stepsize_controller=gf.solvers.DistanceController(rtol=1e-4),
    ... )
    >>> solution.ys[-1].round(3).tolist()  # 1/e
    [0.368, 0.368, 0.368, 0.368]
    """

    rtol: Any
    origin: PyTree = None
    measured: Callable = eqx.field(static=True, default=whole_state)
    extrapolates: bool = eqx.field(static=True, default=True)
    position: Callable | None = eqx.field(static=True, default=None)

    safety = 0.9
    shrink = 0.2
    grow = 8.0

    @property
    def atol(self) -> float:
        """Nothing absolute: the distance travelled sets the scale."""
        return 0.0

    @property
    def norm(self):
        """The Euclidean norm."""
        return tree_norm

    def wrap(self, direction) -> DistanceController:
        """Itself: the direction of time does not matter."""
        del direction
        return self

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order: Any):
        """The end of the first step and the state; two evaluations unless `dt0` is given.

        A step h from y_0 errs by about |y'| tau (h / tau)^k and travels h |y'|, where tau is the
        time in which the slope changes by itself: the first step is tau rtol^(1 / (k - 1)).
        """
        if dt0 is None:
            f0 = func(terms, t0, y0, args)
            speed = tree_norm(self.measured(f0))
            start = self.measured(y0)
            epsilon = jnp.finfo(speed.dtype).eps
            # A nudge large enough to show a change of slope above rounding, and no larger.
            nudge = jnp.sqrt(epsilon) * (tree_norm(start) + jnp.sqrt(epsilon))
            dt = nudge / positive(speed)
            f1 = func(terms, t0 + dt, tree_axpy(dt, f0, y0), args)
            bend = tree_norm(tree_sub(self.measured(f1), self.measured(f0)))
            tau = dt * speed / positive(bend)
            h = tau * self._tolerance(speed) ** (1 / (error_order - 1))
            # A start without any slope, or an infinite one, leaves nothing to go by.
            h = jnp.where(jnp.isfinite(h) & (h > 0), h, (t1 - t0) * jnp.sqrt(epsilon))
            h = jnp.minimum(h, t1 - t0)
        else:
            h = dt0
        one = jnp.ones((), jnp.result_type(t0))
        origin = self._position(y0) if self.origin is None else None
        return t0 + h, DistanceState(origin, one, jnp.asarray(False), jnp.zeros_like(one))

    def take_over(self, controller_state: DistanceState) -> DistanceState:
        """The state in which it goes on where another solver's controller left off.

        The stiff noise that an explicit method leaves at its stability limit, an error that was
        within the tolerance then, would have a first step per length refused: it is let pass,
        and fades.
        """
        last = controller_state.last_ratio
        return controller_state._replace(last_ratio=jnp.ones_like(last), credit=last)

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        """Accept or refuse the step from `t0` to `t1`, and choose the next one."""
        del args
        error = tree_norm(self.measured(y_error))
        end = self._position(y1_candidate)
        state: DistanceState = controller_state
        origin = state.origin if self.origin is None else self.origin
        travelled = tree_norm(tree_sub(end, origin))
        # Below the rounding of the state itself no error can be seen.
        rounding = jnp.finfo(error.dtype).eps * tree_norm(origin)
        share, k = travelled, error_order
        if not self.extrapolates:
            k = error_order - 1
            length = tree_norm(tree_sub(end, self._position(y0)))
            step = jnp.asarray((t1 - t0) / t1, length.dtype)
            credit = state.credit.astype(length.dtype)
            share = jnp.maximum(length, jnp.maximum(step, credit) * travelled)
        ratio = error / positive(self._tolerance(error) * share + rounding)
        # What is not measured, such as the energy dissipated, must still be a number.
        finite = jnp.isfinite(tree_norm(y_error)) & jnp.isfinite(travelled)
        ratio = jnp.where(finite, ratio, jnp.inf)
        keep = ratio <= 1

        r = jnp.maximum(ratio, 1e-8).astype(jnp.result_type(t0))
        growth = self.safety * r ** (-0.7 / k) * state.last_ratio ** (0.4 / k)
        growth = jnp.where(keep, growth, self.safety * r ** (-1 / k))
        # No growth in the first step after a refusal: what was just refused would come again.
        limit = jnp.where(keep & ~state.rejected, self.grow, 1.0)
        factor = jnp.clip(growth, self.shrink, limit)
        h = (t1 - t0) * factor
        start = jnp.where(keep, t1, t0)
        last_ratio = jnp.where(keep, r, state.last_ratio)
        credit = jnp.where(keep, _FADING * state.credit, state.credit)
        state = DistanceState(state.origin, last_ratio, ~keep, credit)
        return keep, start, start + h, False, state, diffrax.RESULTS.successful

    def _position(self, state: PyTree) -> PyTree:
        return (self.position or self.measured)(state)

    def _tolerance(self, like: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.asarray(self.rtol, like.dtype)
