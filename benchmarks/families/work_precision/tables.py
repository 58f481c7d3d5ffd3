"""What was measured, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from benchmarks.suite import Column, Kind, Table

from .criteria import ERRORS, LEVELS, TUNED, peers, stiff, walls
from .draw import Draw
from .matched import cost_at, wall


def against_peers(draws: Sequence[Draw]) -> Table:
    """auto's seconds at an error, and the peers that come nearest or are ahead."""
    table = Table(
        "auto against its peers",
        (
            Column("problem, seed"),
            Column("error"),
            Column("at most"),
            Column("auto", Kind.SECONDS),
            Column("best peer", Kind.WORD),
            Column("takes", Kind.SECONDS),
            Column("auto / it", Kind.RATIO),
            Column("stiff: nearest other peer", Kind.WORD),
            Column("auto / other", Kind.RATIO),
            Column("stiff: nearest tuned", Kind.WORD),
            Column("auto / tuned", Kind.RATIO),
        ),
        note=(
            "Seconds for an error of at most that, interpolated between tolerances; "
            "where no run of a peer is as accurate, it is left out. Tuned are Kvaerno with "
            "Newton-CG and SSV2stab, other peers all else that is not gradflow's."
        ),
    )
    for draw, (which, off), level in product(draws, ERRORS.items(), LEVELS):
        mine = cost_at(draw.methods.get("auto", ()), level, wall, off)
        ratios = walls(draw, level, off, peers(draw))
        best = max(ratios, key=ratios.__getitem__, default=None)
        theirs = cost_at(draw.methods[best], level, wall, off) if best else None
        others, tuned = {}, {}
        if stiff(draw):
            others = {name: ratio for name, ratio in ratios.items() if name not in TUNED}
            tuned = walls(draw, level, off, TUNED)
        nearest = [*_largest(ratios)[1:], *_largest(others), *_largest(tuned)]
        table.add(draw.name, which, f"{level:g}", mine, best, theirs, *nearest)
    return table


def _largest(ratios: dict[str, float]) -> tuple[str | None, float | None]:
    return max(ratios.items(), key=lambda item: item[1], default=(None, None))


def runs(draw: Draw) -> Table:
    """All runs on one draw."""
    table = Table(
        f"{draw.name}: all runs",
        (
            Column("method"),
            Column("tolerance"),
            Column("gradients", Kind.COUNT),
            Column("error at the end", Kind.ERROR),
            Column("worst", Kind.ERROR),
            Column("seconds", Kind.SECONDS),
            Column("steps", Kind.COUNT),
            Column("rejected", Kind.COUNT),
            Column("solvers", Kind.WORD),
        ),
        note=f"{draw.size:,} parameters; the sharpness integrates to {draw.stiffness:,.0f}.",
    )
    for point in draw.points:
        table.add(
            point.method,
            f"{point.rung:g}",
            point.evaluations,
            point.final,
            point.worst,
            point.seconds,
            point.accepted,
            point.rejected,
            point.note or None,
        )
    return table


def missing(draws: Iterable[Draw]) -> list[str]:
    """Methods of which runs are missing, and why."""
    return [
        f"{draw.name}, {method}: {why}" for draw in draws for method, why in draw.failures.items()
    ]
