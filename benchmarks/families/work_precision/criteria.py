"""What work-precision diagrams must show, computed from what was measured.

Each criterion is a line: what is held against what, the target, and the worst of all draws, which
decides. auto and its peers are held against each other at the largest error of the whole run, which
is what gradflow's tolerance bounds, and at the error at the end; all else at the end. A run that is
more accurate than asked counts as it is: where stability sets its steps, a method cannot have less
for its money.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf, sqrt

from benchmarks.problems import PROBLEMS
from benchmarks.suite import Criterion
from gradflow.solvers import SOLVERS

from .draw import Draw, Point
from .matched import Error, around, cost_at, evaluations, final, ratio, wall, worst

LEVELS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
# Gradients are compared where the tolerance sets the error, not what a run cannot do without.
_COUNTED = LEVELS[:4]
_MATCHED = 5e-3
_TWIN = "extensisq SSV2stab"
ERRORS = {"of the whole run": worst, "at the end": final}
# What somebody who knows that the problem is stiff would write by hand.
TUNED = ("kvaerno3-cg", "kvaerno5-cg", _TWIN)


def criteria(draws: Sequence[Draw]) -> Iterator[Criterion]:
    """All of them."""
    for which, off in ERRORS.items():
        yield from _against_peers(draws, which, off)
    yield Criterion("auto against our best single solver, gradients", 2.0, _regret(draws))
    yield Criterion(
        "rkc2 against SSV2stab, the same method, gradients",
        1.0,
        {f"{draw.name}, {level:g}": v for draw, level, v in _levels(draws, "rkc2", _TWIN, True)},
    )
    trained = [draw for draw in draws if draw.case in ("hi", "mlp")]
    yield Criterion(
        "rkc2, stages over sqrt(1.54 * 1.2 * K * Lambda) on hi and mlp",
        1.0,
        _over(trained, "rkc2", _work),
    )
    for what, target, value in (
        ("share of rejected steps", 0.05, _rejected),
        ("worst error on the way over final", 5.0, _rise),
    ):
        values = {
            f"{own}, {name}": v
            for own in ("rkc2", "auto")
            for name, v in _over(trained, own, value).items()
        }
        yield Criterion(f"rkc2 and auto, {what} on hi and mlp", target, values)


def _against_peers(draws: Sequence[Draw], which: str, off: Error) -> Iterator[Criterion]:
    near, ahead, tuned = {}, {}, {}
    for draw in draws:
        for level in LEVELS:
            name = f"{draw.name}, {level:g}"
            against = walls(draw, level, off, peers(draw))
            if against:
                near[name] = max(against.values())
            if not stiff(draw):
                continue
            ahead |= {f"{name}, {m}": r for m, r in against.items() if m not in TUNED}
            tuned |= {f"{name}, {m}": r for m, r in walls(draw, level, off, TUNED).items()}
    span = f"seconds at errors {which} of {LEVELS[0]:g} to {LEVELS[-1]:g}"
    yield Criterion(f"auto against the best peer, {span}", 1.3, near)
    yield Criterion(f"auto against other peers on stiff problems, {span}", 1 / 5, ahead)
    yield Criterion(
        f"auto against Kvaerno with CG and SSV2stab on stiff problems, {span}", 1 / 2, tuned
    )


def stiff(draw: Draw) -> bool:
    """Whether stability limits explicit methods over most of the run."""
    return "stiff" in PROBLEMS[draw.case].tags


def own(draws: Iterable[Draw]) -> list[str]:
    """gradflow's solvers that were measured."""
    names = {point.method for draw in draws for point in draw.points}
    return [name for name in (*SOLVERS, "auto") if name in names]


def peers(draw: Draw) -> list[str]:
    """All others."""
    ours = own([draw])
    return [name for name in draw.methods if name not in ours]


def walls(draw: Draw, error: float, off: Error, others: Iterable[str]) -> dict[str, float]:
    """auto's seconds over those of each of `others` that is as accurate as that.

    They are infinite where auto itself is not; there are none where auto was not measured.
    """
    if "auto" not in draw.methods:
        return {}
    mine = cost_at(draw.methods["auto"], error, wall, off)
    costs = {name: cost_at(draw.methods.get(name, ()), error, wall, off) for name in others}
    return {
        name: inf if mine is None else mine / cost
        for name, cost in costs.items()
        if cost is not None
    }


def _over(
    draws: Sequence[Draw], method: str, value: Callable[[Draw, Point], float | None]
) -> dict[str, float]:
    """A value of each run from which the cost at the matched error is read."""
    return {
        f"{draw.name}, rtol {point.rung:g}": found
        for draw in draws
        for point in around(draw.methods.get(method, ()), _MATCHED)
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
    draws: Sequence[Draw], one: str, other: str, between: bool = False
) -> Iterator[tuple[Draw, float, float]]:
    for draw in draws:
        for level in _COUNTED:
            value = ratio(draw, one, other, level, evaluations, between=between)
            if value is not None:
                yield draw, level, value


def _regret(draws: Sequence[Draw]) -> dict[str, float]:
    """What auto costs over the cheapest of the solvers that it could have been."""
    values: dict[str, float] = {}
    for single in own(draws):
        if single == "auto":
            continue
        for draw, level, value in _levels(draws, "auto", single):
            key = f"{draw.name}, {level:g}"
            values[key] = max(value, values.get(key, 0.0))
    return values
