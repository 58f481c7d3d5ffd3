"""Family A, work-precision diagrams: the error of a solver against what it costs.

``python -m benchmarks --only work-precision`` runs every solver of gradflow's and every peer that
fits over a ladder of tolerances, on all small test problems; ``python -m
benchmarks.families.work_precision`` on chosen problems, draws and methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax

from benchmarks.methods import MISSING
from benchmarks.problems import PROBLEMS
from benchmarks.suite import Effort, Family, Findings

from . import figures
from .criteria import criteria
from .draw import Draw
from .measure import NOT_QUICK, NOT_QUICK_ON_NETWORKS, NOT_QUICK_WHERE_STIFF, measured
from .tables import against_peers, missing, runs

# One or two of each kind whose programs and references take seconds each, not minutes.
_QUICK = ("quadratic-mild", "quadratic", "hi", "transformer")


def chosen(effort: Effort) -> tuple[list[str], list[str]]:
    """The test problems of an effort, and what is left out of problems and methods."""
    names = [name for name, case in PROBLEMS.items() if "large" not in case.tags]
    skipped = [
        f"{name}: a run takes minutes; `python -m benchmarks.families.work_precision --problems "
        f"{name}` measures it"
        for name in PROBLEMS
        if name not in names
    ]
    skipped += [f"{name}: {reason}" for name, reason in MISSING.items()]
    if effort.quick:
        left_out = [name for name in names if name not in _QUICK]
        skipped += [
            f"with --quick: {', '.join((*left_out, *NOT_QUICK))}",
            f"with --quick on networks: {', '.join(NOT_QUICK_ON_NETWORKS)}",
            f"with --quick on stiff problems: {', '.join(NOT_QUICK_WHERE_STIFF)}",
        ]
        names = list(_QUICK)
    return names, skipped


def drawn(effort: Effort) -> list[Draw]:
    """All methods on the first draw of each test problem, measured once in a process."""
    draws: list[Draw] = []
    for name in chosen(effort)[0]:
        draws.append(measured(name, 0, effort.quick, effort.say))
        if draws[0].size != draws[-1].size:
            # Programs of other shapes serve no more, and a process that keeps all of them runs
            # out of memory maps and is aborted.
            jax.clear_caches()
    return draws


def found(draws: Sequence[Draw]) -> Findings:
    """What the runs show."""
    return Findings(
        [against_peers(draws), *map(runs, draws)],
        list(criteria(draws)),
        missing(draws),
        [draw.plain() for draw in draws],
    )


def measure(effort: Effort) -> Findings:
    """Every method on every small problem."""
    findings = found(drawn(effort))
    findings.skipped += chosen(effort)[1]
    return findings


def draw(findings: Findings, directory: Path) -> list[Path]:
    """A figure of each draw, and one of a few side by side."""
    return figures.save([Draw.of(plain) for plain in findings.data], directory)


FAMILY = Family("work-precision", "A", "what does a solver cost for an error?", measure, draw)
