"""What a method is to the benchmark, and over which tolerances it is run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .setting import Setting

FINE = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 2e-4, 5e-5, 1e-5, 1e-6)
DECADES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
# Where stability sets the steps, the tolerance does not change the cost.
STABILITY_BOUND = (1e-2, 1e-3, 1e-4)

# Parameters up to which a method that factorises the whole Hessian is run; gradflow's dense
# methods do so in every stage, and take minutes for what others do in seconds.
DENSE, DENSE_STAGES = 1_000, 400


WARMING = 1e-9  # the share of a run that is made to have it compiled


class RunFailedError(Exception):
    """A run did not reach the end; the message says why."""


@dataclass(frozen=True)
class Run:
    """What one run gave.

    Attributes:
        states: at the times of the setting, as vectors, shape ``(n, size)``.
        evaluations: of the gradient, a Hessian-vector product counted as two.
        seconds: that it took, compilation apart.
        accepted, rejected: steps, where the method says.
        note: which solvers ran, where a method changes between them.
    """

    states: np.ndarray
    evaluations: int
    seconds: float
    accepted: int | None = None
    rejected: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Method:
    """A solver as it is measured.

    Attributes:
        name: in tables, ``OWNER SOLVER`` of what is not gradflow's.
        run: ``(setting, rung)`` to a `Run`; raises `RunFailedError`.
        rungs: tolerances, from the loosest on; of a method of fixed steps, the steps times the
            sharpness.
        stiff_rungs: on stiff problems, instead.
        largest: the number of parameters up to which it is run.
        estimator: ``(setting, rung)`` to the evaluations that it spends on the spectral radius.
    """

    name: str
    run: Callable[[Setting, float], Run]
    rungs: tuple[float, ...]
    stiff_rungs: tuple[float, ...] = ()
    largest: float = math.inf
    estimator: Callable[[Setting, float], int] | None = None

    def ladder(self, setting: Setting, quick: bool) -> tuple[float, ...]:
        """The rungs for a test problem; every other one if it must be quick, the first included."""
        if setting.problem.size > self.largest:
            return ()
        stiff = self.stiff_rungs and "stiff" in setting.case.tags
        rungs = self.stiff_rungs if stiff else self.rungs
        return rungs[::2] if quick else rungs
