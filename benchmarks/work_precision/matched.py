"""What a method costs for an error: its diagram, read at one height."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import exp, log

from .record import Draw, Point

Cost = Callable[[Point], float]


def evaluations(point: Point) -> float:
    """Gradients, as a cost."""
    return float(point.evaluations)


def wall(point: Point) -> float:
    """Seconds, as a cost."""
    return point.wall


def cost_at(points: Sequence[Point], error: float, cost: Cost) -> float | None:
    """The least that the method pays for a final error of at most `error`.

    Between two neighbouring tolerances whose errors lie on both sides, interpolated in the logs;
    a run that is more accurate than asked counts as it is.

    Args:
        points: of one method on one draw, from the loosest tolerance on.
        error: the error.
        cost: what is paid.

    Returns:
        The cost; ``None`` where no run is as accurate as that.
    """
    found = [cost(point) for point in points if point.final <= error]
    for looser, tighter in pairwise(points):
        if tighter.final < error < looser.final:
            share = log(looser.final / error) / log(looser.final / tighter.final)
            found.append(exp((1 - share) * log(cost(looser)) + share * log(cost(tighter))))
    return min(found, default=None)


def around(points: Sequence[Point], error: float) -> list[Point]:
    """The runs from which the cost at `error` is read: two neighbours, or the loosest of all."""
    for looser, tighter in pairwise(points):
        if tighter.final < error < looser.final:
            return [looser, tighter]
    return [point for point in points if point.final <= error][:1]


def ratio(draw: Draw, one: str, other: str, error: float, cost: Cost) -> float | None:
    """The cost of `one` over that of `other` at `error`; ``None`` where one was not measured."""
    methods = draw.methods
    a, b = (cost_at(methods.get(name, ()), error, cost) for name in (one, other))
    return None if a is None or b is None else a / b
