"""Runs the methods over their ladders, and repeats what is quick."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.methods import Setting
from benchmarks.methods.method import Method, RunFailedError

from .record import Draw, Point


@dataclass(frozen=True)
class Effort:
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
    setting: Setting, methods: Iterable[Method], effort: Effort, said: Callable[[str], None]
) -> Draw:
    """All runs on one draw of a test problem; repetitions alternate between the methods.

    Args:
        setting: the draw.
        methods: those to run.
        effort: how much work to do.
        said: told about each run.
    """
    draw = Draw(setting.case.name, setting.seed, setting.problem.size, setting.stiffness)
    again: list[tuple[Method, Point]] = []
    for method in methods:
        for rung in method.ladder(setting, effort.quick):
            began = time.perf_counter()
            try:
                point = _first(setting, method, rung)
            except RunFailedError as error:
                draw.failures[method.name] = f"at {rung:g}: {error}"
                said(f"{draw.name} {method.name} {draw.failures[method.name]}")
                break
            draw.points.append(point)
            said(line(draw, point) + f"  ({time.perf_counter() - began:.1f} s in all)")
            if point.wall < effort.repeat_below:
                again.append((method, point))
            if point.wall > effort.limit:
                break
    for _ in range(effort.repeats - 1):
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


def line(draw: Draw, point: Point) -> str:
    """One line of the table; `HEAD` names its columns."""
    steps = "" if point.accepted is None else f"{point.accepted}"
    rejected = "" if point.rejected is None else f"{point.rejected}"
    return (
        f"{draw.name:<22}{point.method:<20}{point.rung:>8g}{point.evaluations:>10,}"
        f"{point.final:>10.1e}{point.worst:>10.1e}{point.wall:>9.3f}{steps:>9}{rejected:>6}"
        f"  {point.note}"
    ).rstrip()


HEAD = (
    f"{'problem, seed':<22}{'method':<20}{'rung':>8}{'gradients':>10}{'error':>10}{'worst':>10}"
    f"{'seconds':>9}{'steps':>9}{'rej.':>6}"
)
