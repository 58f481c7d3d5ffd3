"""A suite's record as a page of Markdown."""

from __future__ import annotations

import math
from typing import Any

from .criterion import Criterion
from .record import PEERS, Outcome, Record


def head(made: dict[str, Any]) -> str:
    """What was measured with what; peers that are not installed are named."""
    versions, load = made["versions"], made["load"]["before"]
    there = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    absent = [name for name in PEERS if versions.get(name) is None]
    lines = [
        f"- commit {made['commit'] or 'unknown'}, {'quick' if made['quick'] else 'in full'}",
        f"- {made['device']}, {made['processors']['process']} of "
        f"{made['processors']['machine']} processors; "
        f"load before {'unknown' if load is None else load}",
        f"- {there}",
    ]
    if absent:
        lines.append(
            f"- not installed, so not measured: {', '.join(absent)} (`pip install -e '.[bench]'`)"
        )
    return "\n".join(("# gradflow's benchmarks", "", *lines))


def section(outcome: Outcome) -> str:
    """A family: its criteria first, then its tables and what was left out."""
    parts = [f"## {outcome.name}: {outcome.what}", f"{outcome.wall:.0f} s in all."]
    found = outcome.findings
    if found is None:
        return "\n\n".join((*parts, f"**Failed**: {outcome.failure}"))
    if found.criteria:
        parts.append("\n".join(("```", *map(str, found.criteria), "```")))
    parts += [table.markdown() for table in found.tables]
    if found.skipped:
        parts.append("\n".join(("Not measured:", "", *(f"- {word}" for word in found.skipped))))
    return "\n\n".join(parts)


def summary(record: Record) -> str:
    """One line for each family: how many of its criteria hold."""
    return "\n".join(
        ("## All", "", *(f"- {each.name}: {_verdict(each)}" for each in record.outcomes))
    )


def _verdict(outcome: Outcome) -> str:
    if outcome.findings is None:
        return f"failed, {outcome.failure}"
    criteria = outcome.findings.criteria
    measured = [criterion for criterion in criteria if criterion.passed is not None]
    missed = [_missed(criterion) for criterion in measured if not criterion.passed]
    line = f"{len(measured) - len(missed)} of {len(measured)} criteria hold"
    if not criteria:
        line = "no criteria"
    elif len(measured) < len(criteria):
        line += f" ({len(criteria) - len(measured)} not measured)"
    return "; missed: ".join((line, "; ".join(missed))) if missed else line


def _missed(criterion: Criterion) -> str:
    _, most = criterion.worst or ("", math.nan)
    return f"{criterion.what} ({most:.3g}, at most {criterion.target:.3g})"
