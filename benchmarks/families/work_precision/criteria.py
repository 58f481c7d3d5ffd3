"""What the stiff regime must show, computed from what was measured.

Each criterion is a line: what is held against what, the target, and the worst of all draws, which
decides. One that nothing was measured for says so and neither passes nor fails.

Against an explicit method whose steps stability holds down, a run that is more accurate than asked
counts as it is: the method could not have had less for its money. Two methods whose cost follows
the tolerance are compared only at errors that both ladders have runs on both sides of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import sqrt

from benchmarks.suite import Criterion
from gradflow.solvers import SOLVERS

from .matched import Cost, around, cost_at, evaluations, ratio, wall
from .record import Draw, Point

MATCHED = 5e-3
STIFF = ("hi", "mlp")
LEVELS = (1e-2, 1e-3, 1e-4, 1e-5)
PEER = "extensisq SSV2stab"
DESCENT = "gradient descent"


def criteria(draws: Sequence[Draw]) -> Iterator[Criterion]:
    """All of them, in the order of the issue that asks for them."""
    stiff = [draw for draw in draws if draw.case in STIFF]
    for own in ("rkc2", "auto"):
        yield from _against_explicit(stiff, own)
    for own in ("rkc2", "auto"):
        yield _compared(stiff, own, "kvaerno3-cg", "seconds", wall, 1.0, between=True)
    yield Criterion(
        "rkc2, stages over sqrt(1.54 * 1.2 * K * Lambda)", 1.0, _over(stiff, "rkc2", _work)
    )
    for own in ("rkc2", "auto"):
        yield Criterion(f"{own}, share of rejected steps", 0.05, _over(stiff, own, _rejected))
        yield Criterion(f"{own}, worst error on the way over final", 5.0, _over(stiff, own, _rise))
    for own in ("rkc2", "auto"):
        yield _compared(stiff, own, PEER, "gradients", evaluations, 1.0, between=True)
        yield _compared(stiff, own, PEER, "seconds", wall, 0.5, between=True)
    yield Criterion(
        f"rkc2 against {PEER}, gradients at errors {_span(LEVELS)}, all problems",
        1.0,
        {
            f"{draw.name}, {level:g}": value
            for draw, level, value in _levels(draws, "rkc2", PEER, between=True)
        },
    )
    yield Criterion(
        f"auto against the best single solver, gradients at errors {_span(LEVELS)}, all problems",
        2.0,
        _regret(draws),
    )
    for own in _own(draws):
        yield Criterion(
            f"{own}, worst error on the way over rtol, all problems", 10.0, _promise(draws, own)
        )


def _span(levels: Sequence[float]) -> str:
    return f"{levels[0]:g} to {levels[-1]:g}"


def _own(draws: Iterable[Draw]) -> list[str]:
    """gradflow's solvers that were measured."""
    measured = {point.method for draw in draws for point in draw.points}
    return [name for name in (*SOLVERS, "auto") if name in measured]


def _against_explicit(draws: Sequence[Draw], own: str) -> Iterator[Criterion]:
    for other in ("tsit5", "bosh3"):
        yield _compared(draws, own, other, "gradients", evaluations, 1 / 15)
    values = {}
    for draw in draws:
        mine = cost_at(draw.methods.get(own, ()), MATCHED, evaluations)
        descent = [p.evaluations for p in draw.methods.get(DESCENT, ()) if p.rung == 1]
        if mine is not None and descent:
            values[draw.name] = mine / descent[0]
    what = f"{own} at error {MATCHED:g} against {DESCENT} at 1/sharpness, gradients"
    yield Criterion(what, 1 / 10, values)


def _compared(
    draws: Sequence[Draw],
    own: str,
    other: str,
    unit: str,
    cost: Cost,
    target: float,
    *,
    between: bool = False,
) -> Criterion:
    found = {draw.name: ratio(draw, own, other, MATCHED, cost, between=between) for draw in draws}
    values = {name: value for name, value in found.items() if value is not None}
    return Criterion(f"{own} against {other} at error {MATCHED:g}, {unit}", target, values)


def _over(
    draws: Sequence[Draw], own: str, value: Callable[[Draw, Point], float | None]
) -> dict[str, float]:
    """A value of each run from which the cost at the matched error is read."""
    return {
        f"{draw.name}, rtol {point.rung:g}": found
        for draw in draws
        for point in around(draw.methods.get(own, ()), MATCHED)
        if (found := value(draw, point)) is not None
    }


def _work(draw: Draw, point: Point) -> float | None:
    if point.estimator is None or point.accepted is None:
        return None
    stages = point.evaluations - point.estimator
    return stages / sqrt(1.54 * 1.2 * point.accepted * draw.stiffness)


def _rejected(draw: Draw, point: Point) -> float | None:
    if point.rejected is None or point.accepted is None:
        return None
    return point.rejected / (point.accepted + point.rejected)


def _rise(draw: Draw, point: Point) -> float:
    return point.worst / point.final


def _levels(
    draws: Sequence[Draw], own: str, other: str, *, between: bool = False
) -> Iterator[tuple[Draw, float, float]]:
    for draw in draws:
        for level in LEVELS:
            value = ratio(draw, own, other, level, evaluations, between=between)
            if value is not None:
                yield draw, level, value


def _regret(draws: Sequence[Draw]) -> dict[str, float]:
    """What auto costs over the cheapest of the solvers that it could have been."""
    values: dict[str, float] = {}
    singles = [name for name in _own(draws) if name != "auto"]
    for single in singles:
        for draw, level, value in _levels(draws, "auto", single):
            key = f"{draw.name}, {level:g}"
            values[key] = max(value, values.get(key, 0.0))
    return values


def _promise(draws: Sequence[Draw], own: str) -> dict[str, float]:
    return {
        f"{draw.name}, rtol {point.rung:g}": point.worst / point.rung
        for draw in draws
        for point in draw.methods.get(own, ())
    }
