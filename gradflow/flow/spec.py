"""What `solve` can be told, and how a run can end."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from .._spec import Spec
from ..fields import GRADIENT, AnyField
from ..save_times import Logarithmic, SaveTimes
from ..solvers import SOLVERS
from ..spectra import Spectrum

# Why a run ended, and what to do about it where it should not have.
RESULTS = {
    "end_time": "reached t1",
    "gradient_norm": "the gradient norm fell to its limit",
    "loss": "the loss fell to its limit",
    "wall_time": "the wall time allowed was used up",
    "cancelled": "it was interrupted",
    "unfinished": "it was cut off or is still under way, and this is what was kept last",
    "step_limit": "it took max_steps steps; raise max_steps, loosen rtol, or ask for a shorter t1",
    "step_underflow": (
        "no step was small enough: the loss or its gradient is not finite or not smooth beyond "
        "this time; look at the loss there, or stop before it"
    ),
    "not_finite": (
        "the gradient is not finite at the initial parameters; look at the loss and the data there"
    ),
}
FAILURES = ("step_limit", "step_underflow", "not_finite")

# An error below this many roundings of the distance travelled cannot be had.
_ROUNDINGS = 100
# A certificate takes a solve so many times tighter at least, or the difference says little.
CERTIFIABLE = 3


class Stop(Spec):
    """When a run ends before t1: as soon as any of these holds, looked at after every step.

    Attributes:
        gradient_norm: |grad L| is at most this.
        relative_gradient_norm: |grad L| is at most this times its value at the start.
        loss: the loss is at most this.
        wall_seconds: this much wall time has passed since the first step, compilation apart.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> stop = gf.Stop(loss=0.1)
    >>> flow = gf.solve(problem, t1=20.0, stop=stop, save=gf.Linear(count=5))
    >>> flow.result, bool(flow["loss"][-1] <= 0.1), flow.final_time < 20
    ('loss', True, True)
    """

    gradient_norm: Annotated[float, Field(gt=0)] | None = None
    relative_gradient_norm: Annotated[float, Field(gt=0, lt=1)] | None = None
    loss: float | None = None
    wall_seconds: Annotated[float, Field(gt=0)] | None = None

    @property
    def needs_gradient(self) -> bool:
        """Whether a rule looks at the norm of the gradient."""
        return (self.gradient_norm, self.relative_gradient_norm) != (None, None)


SolverName = Literal["auto", *SOLVERS]  # pyright: ignore[reportInvalidTypeForm]


NEVER = Stop()
SAVE = Logarithmic()


class FlowSpec(Spec):
    """What `solve` does, as far as a configuration file can say it.

    Attributes:
        t1: end time; gradient descent with learning rate eta is at t = eta * step.
        rtol: bounds the error of the trajectory relative to the distance travelled.
        solver: a method by name; auto begins with an explicit one, chosen by the tolerance, and
            changes to a stabilised one where the flow is stiff.
        field: what is followed: gradient, or one of `gradflow.fields`, by its kind.
        save: when to record.
        save_each: other save times for single observables, by name.
        spectrum: what is recorded of the Hessian, e.g. the sharpness; null for nothing.
        stop: when to end before t1.
        max_steps: attempted steps after which the run counts as failed.
        certify: whether the error of this very run is estimated, by a second, tighter solve.
    """

    t1: Annotated[float, Field(gt=0)]
    rtol: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    solver: SolverName = "auto"
    field: Literal["gradient"] | AnyField = GRADIENT
    save: SaveTimes = SAVE
    save_each: dict[str, SaveTimes] = Field(default={})
    spectrum: Spectrum | None = None
    stop: Stop = NEVER
    max_steps: Annotated[int, Field(gt=0, lt=2**31)] = 100_000
    certify: bool = False

    @model_validator(mode="after")
    def _save_times_fit(self) -> FlowSpec:
        own = [self.spectrum.save] if self.spectrum is not None else []
        for save in (self.save, *self.save_each.values(), *own):
            save.build(self.t1)
        return self

    def stretched(self, factor: float) -> FlowSpec:
        """The same in a time that runs `factor` times as long: its end and when it records."""
        spectrum = self.spectrum
        changes: dict[str, Any] = {
            "t1": factor * self.t1,
            "save": self.save.stretched(factor),
            "save_each": {name: save.stretched(factor) for name, save in self.save_each.items()},
        }
        if spectrum is not None:
            save = spectrum.save.stretched(factor)
            changes["spectrum"] = spectrum.model_copy(update={"save": save})
        return self.model_copy(update=changes)


def least_tolerance(dtype: Any) -> float:
    """The tightest tolerance that parameters of `dtype` can hold."""
    return _ROUNDINGS * float(np.finfo(dtype).eps)


def check_tolerance(rtol: float, dtype: Any, certify: bool = False) -> None:
    """Refuse a tolerance that parameters of `dtype` cannot hold, or cannot be certified in it.

    Raises:
        ValueError: naming both, and the way out.
    """
    least = least_tolerance(dtype)
    if certify and least <= rtol < CERTIFIABLE * least:
        raise ValueError(
            f"rtol = {rtol:g} cannot be certified in {np.dtype(dtype)}: that takes a solve "
            f"{CERTIFIABLE} times tighter at least, and {least:.2g} is the least it can hold; "
            f"raise rtol to {CERTIFIABLE * least:.2g}, use float64, or do without certify"
        )
    if rtol < least:
        remedy = "raise rtol"
        if np.dtype(dtype) == np.float32:
            remedy += (
                ", or use float64: precision: float64 in a config, in Python "
                "jax.config.update('jax_enable_x64', True) before any array exists"
            )
        raise ValueError(
            f"rtol = {rtol:g} is below {least:.2g}, the least that {np.dtype(dtype)} parameters "
            f"can hold; {remedy}"
        )
