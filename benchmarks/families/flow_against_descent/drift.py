"""How far descents of several learning rates are from the flow, and what would bring them near."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log

import numpy as np

import gradflow as gf
from benchmarks.methods import Setting
from benchmarks.problems import observed_flat
from benchmarks.problems.reference import error

_TIMES = 60
_BEYOND = 1.05  # of the end time: by then a descent has the flow's last loss too


@dataclass(frozen=True)
class Drift:
    """A descent against the exact flow.

    Attributes:
        rate: the learning rate.
        steps: to the flow's end time.
        final, worst: the error at the flow's end time, and the worst at the times of `moments`.
        loss: at the flow's end time.
        same_loss: the steps to the flow's last loss; ``None`` if it is not reached soon after the
            flow's end time.
    """

    rate: float
    steps: int
    final: float
    worst: float
    loss: float
    same_loss: int | None


def moments(t1: float, longest: float) -> np.ndarray:
    """Times at whole steps of the rate `longest`, about evenly in log t, the end time last."""
    return longest * np.unique(np.round(np.geomspace(1, round(t1 / longest), _TIMES)))


def drift(setting: Setting, rate: float, at: np.ndarray, loss: float) -> Drift:
    """Descend with one learning rate and compare.

    Args:
        setting: the problem, with the exact flow at all times of `at`.
        rate: the learning rate.
        at: `moments` of a rate that is a multiple of this one.
        loss: the flow's last.
    """
    t1 = setting.case.t1
    near = np.linspace(2 - _BEYOND, _BEYOND, 101) * t1
    descent = gf.descend(
        setting.problem,
        learning_rate=rate,
        t1=_BEYOND * t1,
        observables={"flat": observed_flat},
        save=gf.Explicit(times=[0.0, *near.tolist()]),
        save_each={"flat": gf.Explicit(times=at.tolist())},
    )
    exact = setting.exact[np.searchsorted(setting.times, at)]
    found = error(descent["flat"], exact, setting.exact[0])
    # The loss falls: its last part, turned round, is the time as a function of it.
    times, losses = descent.time[:0:-1], descent["loss"][:0:-1]
    reached = losses[0] <= loss <= losses[-1]
    return Drift(
        rate,
        round(t1 / rate),
        found.final,
        found.worst,
        float(np.interp(-t1, -times, losses)),
        ceil(np.interp(loss, losses, times) / rate) if reached else None,
    )


def order(drifts: list[Drift]) -> float:
    """The power of the learning rate with which the worst error falls, from the last two."""
    one, other = drifts[-2:]
    return log(one.worst / other.worst) / log(one.rate / other.rate)


def rate_for(drifts: list[Drift], error: float) -> float:
    """The learning rate of a worst error of `error`, by the `order` of the last two: predicted."""
    last = drifts[-1]
    return last.rate * (error / last.worst) ** (1 / order(drifts))
