"""What a method costs for an error: its diagram, read at one height."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import exp, log

from .draw import Draw, Point

# What a run pays, and how far it is off.
Cost = Callable[[Point], float]
Error = Callable[[Point], float]


def evaluations(point: Point) -> float:
    """Gradients, as a cost."""
    return float(point.evaluations)


def wall(point: Point) -> float:
    """Seconds, as a cost."""
    return point.wall


def final(point: Point) -> float:
    """The error at the end."""
    return point.final


def worst(point: Point) -> float:
    """The largest error of the whole run."""
    return point.worst


def cost_at(
    points: Sequence[Point],
    error: float,
    cost: Cost,
    off: Error = final,
    *,
    between: bool = False,
) -> float | None:
    """The least that the method pays for an error of at most `error`.

    Between two neighbouring tolerances whose errors lie on both sides, interpolated in the logs;
    a run that is more accurate than asked counts as it is, unless only what lies `between` runs
    is wanted.

    Args:
        points: of one method on one draw, from the loosest tolerance on.
        error: the error.
        cost: what is paid.
        off: which error.
        between: leave out errors that the ladder has no runs on both sides of.

    Returns:
        The cost; ``None`` where no run is as accurate as that.
    """
    if between and not any(off(point) >= error for point in points):
        return None
    found = [cost(point) for point in points if off(point) <= error]
    for above, below in pairwise(points):
        if off(below) < error < off(above):
            share = log(off(above) / error) / log(off(above) / off(below))
            found.append(exp((1 - share) * log(cost(above)) + share * log(cost(below))))
    return min(found, default=None)


def around(points: Sequence[Point], error: float) -> list[Point]:
    """The runs from which the cost at `error` is read: two neighbours, or the loosest of all."""
    for looser, tighter in pairwise(points):
        if tighter.final < error < looser.final:
            return [looser, tighter]
    return [point for point in points if point.final <= error][:1]


def ratio(
    draw: Draw, one: str, other: str, error: float, cost: Cost, *, between: bool = False
) -> float | None:
    """The cost of `one` over that of `other` at `error`, each as by `cost_at`.

    ``None`` where one of them has no cost there.
    """
    methods = draw.methods
    a, b = (cost_at(methods.get(name, ()), error, cost, between=between) for name in (one, other))
    return None if a is None or b is None else a / b
