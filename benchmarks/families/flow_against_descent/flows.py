"""The flow by gradflow and by its peers, over a ladder of tolerances."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

import gradflow as gf
from benchmarks.methods import METHODS, RunFailedError, Setting
from benchmarks.suite import seconds

OWN, DIFFRAX, TORCHDIFFEQ = "auto", "diffrax Tsit5", "torchdiffeq dopri5"
_ROUNDS = 3
_LOOSEST = 1e-3  # of the peers: at looser tolerances they do not come to the end


@dataclass(frozen=True)
class Flow:
    """A run at one tolerance.

    Attributes:
        rtol: the tolerance.
        gradients: evaluations.
        final, worst: the error at the end, and the worst of all times.
        wall: seconds, nothing recorded but the ends.
        end: where it ends, shape ``(size,)``.
    """

    rtol: float
    gradients: int
    final: float
    worst: float
    wall: float
    end: np.ndarray

    def point(self) -> dict[str, Any]:
        """What a figure needs of it."""
        return {key: value for key, value in asdict(self).items() if key != "end"}


def wall(setting: Setting, name: str) -> Callable[[float], float]:
    """Seconds of a run from its tolerance, with nothing recorded but its ends."""
    first_and_last = [0, -1]
    ends = replace(
        setting,
        times=setting.times[first_and_last],
        exact=setting.exact[first_and_last],
        sharpness=setting.sharpness[first_and_last],
    )
    if name != OWN:
        return lambda rtol: METHODS[name].run(ends, rtol).seconds
    solve = partial(
        gf.solve, setting.problem, t1=setting.case.t1, save=gf.Explicit(times=ends.times.tolist())
    )

    def warm(rtol: float) -> float:
        solve(rtol=rtol)  # compiles whatever solvers it goes over to
        # The whole call: what gradflow does before and after the solve counts too.
        return seconds(lambda: solve(rtol=rtol))

    return warm


def ladder(setting: Setting, name: str, error: float, whole: bool) -> list[Flow]:
    """The runs of a method, from the loosest tolerance on.

    Args:
        setting: the problem, and the times at which its errors are looked at.
        name: in `benchmarks.methods.METHODS`.
        error: the worst error that is to be reached.
        whole: whether to go on to the tightest tolerance after it is, and to time a run more than
            once.

    Raises:
        RunFailedError: no run reaches it.
    """
    timed = wall(setting, name)
    found: list[Flow] = []
    for rtol in METHODS[name].ladder(setting, quick=False):
        if name != OWN and rtol > _LOOSEST:
            continue
        run = METHODS[name].run(setting, rtol)
        took = statistics.median(timed(rtol) for _ in range(_ROUNDS if whole else 1))
        found.append(Flow(rtol, run.evaluations, *setting.error(run.states), took, run.states[-1]))
        if not whole and found[-1].worst <= error:
            break
    if all(flow.worst > error for flow in found):
        raise RunFailedError(f"no tolerance of the ladder reaches a whole-run error of {error:g}")
    return found


def loosest(flows: list[Flow], error: float) -> Flow:
    """The first that reaches a whole-run error."""
    return next(flow for flow in flows if flow.worst <= error)
