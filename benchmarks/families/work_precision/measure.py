"""Runs the methods over their ladders, and repeats what is quick to run."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.methods import METHODS, Method, Setting
from benchmarks.problems import PROBLEMS

from .draw import Draw, Point


@dataclass(frozen=True)
class Budget:
    """How much work goes into a measurement.

    Attributes:
        repeats: runs of which the median time is taken.
        repeat_below: runs of more than so many seconds are not repeated.
        limit: a method that took more than so many seconds is not asked for tighter tolerances.
        quick: every other tolerance.
    """

    repeats: int = 3
    repeat_below: float = 3.0
    limit: float = 30.0
    quick: bool = False


def measure(
    setting: Setting, methods: Iterable[Method], budget: Budget, said: Callable[[str], None]
) -> Draw:
    """All runs on one draw of a test problem; repetitions alternate between the methods.

    Args:
        setting: the draw.
        methods: those to run.
        budget: how much work to do.
        said: told about each run.

    Returns:
        The runs; `Draw.failures` says of a method which of them are missing, and why.
    """
    draw = Draw(setting.case.name, setting.seed, setting.problem.size, setting.stiffness)
    again: list[tuple[Method, Point]] = []
    for method in methods:
        ladder = method.ladder(setting, budget.quick)
        if not ladder:
            draw.failures[method.name] = f"not run above {method.largest:,} parameters"
        for rung in ladder:
            began = time.perf_counter()
            try:
                point = _first(setting, method, rung)
            except Exception as error:  # of whatever package
                told = f"failed at {rung:g}: {error or type(error).__name__}".splitlines()[0]
                said(f"{draw.name} {method.name} {told}")
                before = draw.failures.get(method.name)
                draw.failures[method.name] = f"{before}; {told}" if before else told
                continue
            draw.points.append(point)
            said(_line(draw, point) + f"  ({time.perf_counter() - began:.1f} s in all)")
            if point.wall < budget.repeat_below:
                again.append((method, point))
            if point.wall > budget.limit and rung != ladder[-1]:
                draw.failures[method.name] = f"{point.wall:.3g} s at {rung:g}: none tighter"
                break
    for _ in range(budget.repeats - 1):
        for method, point in again:
            point.seconds.append(method.run(setting, point.rung).seconds)
    return draw


def _first(setting: Setting, method: Method, rung: float) -> Point:
    run = method.run(setting, rung)
    error = setting.error(run.states)
    estimator = method.estimator(setting, rung) if method.estimator else None
    return Point(
        method.name,
        rung,
        run.evaluations,
        error.final,
        error.worst,
        [run.seconds],
        run.accepted,
        run.rejected,
        estimator,
        run.note,
    )


def _line(draw: Draw, point: Point) -> str:
    """What is said of a run as soon as it has ended."""
    return (
        f"{draw.name:<22}{point.method:<20}{point.rung:>8g}{point.evaluations:>10,} gradients"
        f"{point.final:>9.1e} off{point.wall:>9.3f} s"
    )


# Neighbours of others that are measured: what they cost most is their compilation.
NOT_QUICK = ("dopri8", "rkl2", "kvaerno3", "kvaerno5-cg", "diffrax Dopri8", "RK4 at 1/sharpness")
# One whose gradients are counted on the host, a column of the Hessian at a time.
NOT_QUICK_ON_NETWORKS = ("diffrax Kvaerno5",)
# Explicit ones that return to Python for every step: a stiff run takes them a minute.
NOT_QUICK_WHERE_STIFF = ("SciPy DOP853", "torchdiffeq dopri5")
_NETWORK = 100  # parameters, of more than which a problem is one


@functools.cache
def measured(name: str, seed: int, quick: bool, said: Callable[[str], None]) -> Draw:
    """The methods on a draw of a test problem, measured once in a process.

    Args:
        name: of the test problem.
        seed: which draw.
        quick: without what is not quick there, every other tolerance, and none tighter than one
            that takes seconds.
        said: told about each run.
    """
    setting = Setting.of(PROBLEMS[name], seed)
    if not quick:
        return measure(setting, METHODS.values(), Budget(), said)
    left_out = set(NOT_QUICK)
    if setting.problem.size > _NETWORK:
        left_out |= set(NOT_QUICK_ON_NETWORKS)
    if "stiff" in setting.case.tags:
        left_out |= set(NOT_QUICK_WHERE_STIFF)
    methods = [method for method in METHODS.values() if method.name not in left_out]
    return measure(setting, methods, Budget(repeat_below=0.3, limit=2.0, quick=True), said)
