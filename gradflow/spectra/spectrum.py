"""What a configuration file can ask for, and how it is drawn."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from .._spec import Spec
from ..observables import Observable
from ..plotting import Figure, Line, Panel
from ..problem import Problem
from ..save_times import SaveTimes
from ..trajectory import Trajectory
from .gradients import block_norms, gradient_noise
from .hessian import SAVE, density, top_eigenvalues, trace


class Spectrum(Spec):
    """What is recorded of the Hessian along a run, beside what every run records.

    Attributes:
        eigenvalues: how many of the largest, by Lanczos' method, with their residuals.
        steps: Hessian-vector products for these; 10 and 5 for each eigenvalue if null.
        trace: whether the trace and the effective rank are estimated.
        density: whether the spectral density is.
        gradient_noise: whether the trace of the covariance of the samples' gradients is.
        block_norms: whether the norm of every array of the parameters is recorded.
        save: when to record all this.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> spectrum = gf.Spectrum(eigenvalues=1)
    >>> descent = gf.descend(problem, learning_rate=0.5, steps=2, spectrum=spectrum)
    >>> descent["sharpness"].round(3)  # L'' = 1
    array([1., 1., 1.])
    """

    # No built-in problem has fewer parameters than the most.
    eigenvalues: Annotated[int, Field(ge=0, le=10)] = 1
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    trace: bool = False
    density: bool = False
    gradient_noise: bool = False
    block_norms: bool = False
    save: SaveTimes = SAVE

    @model_validator(mode="after")
    def _can_be_had(self) -> Spectrum:
        if self.steps is not None and self.steps < self.eigenvalues:
            raise ValueError(
                f"steps = {self.steps} find no {self.eigenvalues} eigenvalues; allowed: at least "
                "as many steps as eigenvalues, 10 and 5 for each of them if null"
            )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the observables, by which they can be given other save times."""
        asked = {
            "hessian_eigenvalue": self.eigenvalues > 0,
            "hessian_trace": self.trace,
            "spectral_density": self.density,
            "gradient_noise": self.gradient_noise,
            "block_norm": self.block_norms,
        }
        return tuple(name for name, wanted in asked.items() if wanted)

    def build(self, problem: Problem) -> tuple[Observable, ...]:
        """The observables that are asked for, of runs of `problem`."""
        save = self.save
        makers = {
            "hessian_eigenvalue": lambda: top_eigenvalues(
                self.eigenvalues, steps=self.steps, save=save
            ),
            "hessian_trace": lambda: trace(save=save),
            "spectral_density": lambda: density(save=save),
            "gradient_noise": lambda: gradient_noise(save=save),
            "block_norm": lambda: block_norms(problem, save=save),
        }
        return tuple(makers[name]() for name in self.names)


_LINES = tuple(
    Line(
        "hessian_eigenvalue",
        {"eigenvalue": i},
        f"eigenvalue {i}",
        spread="hessian_eigenvalue_residual",
    )
    for i in range(2, 7)
)
_TRACE = Line("hessian_trace", spread="hessian_trace_standard_error")


def figures(trajectory: Trajectory) -> tuple[Figure, ...]:
    """What was recorded of the Hessian; logarithmically, where all of it is positive.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> sharpness = gf.Variable(np.array([-0.2, 3.0]), ("time",))
    >>> run = gf.Trajectory({"sharpness": sharpness}, {"time": np.arange(2.0)}, 1.0, {}, "end_time")
    >>> gf.spectra.figures(run)[0].panels[0].yscale
    'linear'
    """
    panels = (
        Panel(
            (Line("sharpness", spread="sharpness_residual"), *_LINES),
            ylabel="largest Hessian eigenvalues",
            xscale="log",
            yscale=_scale(trajectory, "sharpness", "hessian_eigenvalue"),
        ),
        Panel((_TRACE,), xscale="log", yscale=_scale(trajectory, "hessian_trace")),
    )
    caption = (
        "The largest eigenvalues of the Hessian along the run, with their residuals as bands, "
        "and its trace with the standard error."
    )
    return (Figure("sharpness", panels, caption),)


def _scale(trajectory: Trajectory, *names: str) -> Literal["linear", "log"]:
    """Logarithmic, unless that would leave out values: at a saddle they are negative."""
    values = [trajectory[name] for name in names if name in trajectory]
    return "linear" if any(np.any(each <= 0) for each in values) else "log"
