"""Two records of the suite, held against each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .family import Findings
from .record import Outcome, Record
from .table import Kind, Table, middle, written

# Errors repeat to the last digits on one machine, and to rounding on another.
_GROWTH = 1.1


@dataclass(frozen=True)
class Change:
    """One cell that is not what it was.

    Attributes:
        where: table, row and column.
        before: as it was, written out.
        after: as it is.
        what: ``count``, ``error``, ``slower``, ``faster`` or ``criterion``.
        worse: whether it is what may not happen: a count that rose or a criterion that no longer
            holds. Times depend on what else the machine does.
    """

    where: str
    before: str
    after: str
    what: str
    worse: bool = False

    def __str__(self) -> str:
        mark = "WORSE  " if self.worse else ""
        return f"{mark}{self.what}: {self.where}: {self.before} -> {self.after}"


@dataclass
class Comparison:
    """What has changed in one family.

    Attributes:
        name: of the family.
        rows: how many rows both records have.
        alone: how many rows only one has.
        changes: of those that both have.
    """

    name: str
    rows: int = 0
    alone: int = 0
    changes: list[Change] = field(default_factory=list)

    def __str__(self) -> str:
        """One line."""
        found = dict.fromkeys(("count", "error", "slower", "faster", "criterion"), 0)
        for change in self.changes:
            found[change.what] += 1
        worse = sum(change.worse for change in self.changes)
        return (
            f"{self.name}: {self.rows} rows in both, {self.alone} in one; "
            f"{found['count']} counts differ, {found['error']} errors grew, "
            f"{found['slower']} slower, {found['faster']} faster, "
            f"{found['criterion']} criteria turned; {worse} worse"
        )


def compare(old: Record, new: Record) -> list[Comparison]:
    """The families of `old` and `new` that at least one of them measured.

    Rows are matched by their texts. Counts are the same or not; errors may not grow by more than
    a tenth; times and ratios are said to have moved where the medians differ by more than the
    rounds of either spread, and only where there were at least two rounds.
    """
    before, after = ({each.name: each for each in record.outcomes} for record in (old, new))
    return [_family(name, before.get(name), after.get(name)) for name in {**before, **after}]


def _family(name: str, old: Outcome | None, new: Outcome | None) -> Comparison:
    found = Comparison(name)
    if old is None or new is None:
        return found
    if old.findings is None or new.findings is None:
        if new.findings is None and old.findings is not None:
            found.changes.append(Change(name, "measured", new.failure, "criterion", True))
        return found
    was, now = (
        {
            (table.title, *table.key(row)): (table, row)
            for table in found.tables
            for row in table.rows
        }
        for found in (old.findings, new.findings)
    )
    shared = [key for key in was if key in now]
    found.rows = len(shared)
    found.alone = len(was) + len(now) - 2 * len(shared)
    for key in shared:
        found.changes += _row(", ".join(key), *was[key], *now[key])
    verdicts = {each.what: each for each in old.findings.criteria}
    for criterion in new.findings.criteria:
        before = verdicts.get(criterion.what)
        if before is not None and before.passed != criterion.passed:
            worse = before.passed is True and criterion.passed is False
            found.changes.append(
                Change(criterion.what, str(before), str(criterion), "criterion", worse)
            )
    return found


def _rows(findings: Findings) -> dict[tuple[str, ...], tuple[Table, Sequence[Any]]]:
    return {
        (table.title, *table.key(row)): (table, row)
        for table in findings.tables
        for row in table.rows
    }


def _row(
    where: str, old: Table, was: Sequence[Any], new: Table, now: Sequence[Any]
) -> Iterator[Change]:
    cells = {column.name: cell for column, cell in zip(old.columns, was, strict=True)}
    for column, after in zip(new.columns, now, strict=True):
        before = cells.get(column.name)
        if before is None or after is None:
            continue
        what = _changed(column.kind, before, after)
        if what is not None:
            a, b = (written(cell, column.kind) for cell in (before, after))
            worse = what == "count" and middle(after) > middle(before)
            yield Change(f"{where}, {column.name}", a, b, what, worse)


def _changed(kind: Kind, before: Any, after: Any) -> str | None:
    if kind is Kind.COUNT:
        return "count" if middle(before) != middle(after) else None
    if kind is Kind.ERROR:
        grew = middle(after) > _GROWTH * middle(before) or math.isnan(middle(after))
        return "error" if grew else None
    if kind not in (Kind.SECONDS, Kind.RATIO):
        return None
    rounds = [cell for cell in (before, after) if isinstance(cell, Sequence) and len(cell) > 1]
    if len(rounds) < 2:
        return None
    spread = max(max(cell) - min(cell) for cell in rounds)
    moved = middle(after) - middle(before)
    if abs(moved) <= spread:
        return None
    return "slower" if moved > 0 else "faster"
