"""Two records of the suite, held against each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .criterion import Criterion
from .family import Findings
from .record import Outcome, Record
from .table import Kind, Table, middle, written

# Errors repeat to the last digits on one machine, and to rounding on another.
_GROWTH = 0.1
# Of a time that was taken once, so that its spread is not known.
_MOVE = 0.25

Rows = dict[tuple[str, ...], tuple[Table, Sequence[Any]]]


@dataclass(frozen=True)
class Change:
    """One thing that is not what it was.

    Attributes:
        where: table, row and column; or the criterion, or the family.
        before: as it was, written out.
        after: as it is.
        what: ``count``, ``error``, ``number``, ``slower``, ``faster``, ``criterion``, ``margin``
            (of a criterion, whose worst value grew) or ``missing``.
        worse: whether it is what may not happen: a count that rose, a row that is gone, a
            criterion that no longer holds. Times depend on what else the machine does.
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
        changes: what differs.
    """

    name: str
    rows: int = 0
    alone: int = 0
    changes: list[Change] = field(default_factory=list)

    def __str__(self) -> str:
        """One line."""
        counted = Counter(change.what for change in self.changes).items()
        changed = ", ".join(f"{times} {what}" for what, times in counted) or "no change"
        worse = sum(change.worse for change in self.changes)
        return (
            f"{self.name}: {self.rows} rows in both, {self.alone} in one; {changed}; {worse} worse"
        )


def circumstances(old: Record, new: Record) -> Iterator[str]:
    """What two records were made with that differs, a line each.

    Counts of peers may change with their versions.
    """
    for what in ("commit", "quick", "device", "processors"):
        if old.made[what] != new.made[what]:
            yield f"{what}: {old.made[what]} -> {new.made[what]}"
    before, after = old.made["versions"], new.made["versions"]
    for package in {**before, **after}:
        if before.get(package) != after.get(package):
            yield f"{package}: {before.get(package)} -> {after.get(package)}"


def compare(old: Record, new: Record) -> list[Comparison]:
    """The families of `old` and `new` that at least one of them measured.

    Tables are matched by their titles, rows by their texts; a row that is gone from a table that
    both have is worse, unless one of the records is a quick one. Counts are the same or not; errors
    and other numbers may not grow by more than a tenth; times and ratios are said to have moved
    where the medians differ by more than the rounds of either spread, or by more than a quarter
    where there was one round.
    """
    before, after = ({each.name: each for each in record.outcomes} for record in (old, new))
    alike = old.made["quick"] == new.made["quick"]
    return [_family(name, before.get(name), after.get(name), alike) for name in {**before, **after}]


def _family(name: str, old: Outcome | None, new: Outcome | None, alike: bool) -> Comparison:
    before, after = (
        Findings() if each is None or each.findings is None else each.findings
        for each in (old, new)
    )
    was, now = _rows(before), _rows(after)
    shared = [key for key in was if key in now]
    found = Comparison(name, len(shared), len(was) + len(now) - 2 * len(shared))
    if old is None or old.findings is None:
        return found
    if new is None:
        found.changes.append(Change(name, "measured", "not in the file", "missing"))
        return found
    if new.findings is None:
        found.changes.append(Change(name, "measured", new.failure, "criterion", True))
        return found
    if alike:
        found.changes += _gone(before, after, was, now)
    for key in shared:
        found.changes += _row(", ".join(key), *was[key], *now[key])
    verdicts = {each.what: each for each in after.criteria}
    for criterion in before.criteria:
        # One that is not there has not been measured.
        left = verdicts.get(criterion.what, Criterion(criterion.what, criterion.target, {}))
        found.changes += _criterion(criterion, left, alike)
    return found


def _rows(findings: Findings) -> Rows:
    return {
        (table.title, *table.key(row)): (table, row)
        for table in findings.tables
        for row in table.rows
    }


def _gone(before: Findings, after: Findings, was: Rows, now: Rows) -> Iterator[Change]:
    """Tables that are not there any more, and rows of those that are."""
    titles = {table.title for table in after.tables}
    for table in before.tables:
        if table.title not in titles:
            yield Change(table.title, "a table", "none of this title", "missing")
    for key in was:
        if key[0] in titles and key not in now:
            yield Change(", ".join(key), "a row", "none", "missing", True)


def _criterion(old: Criterion, new: Criterion, alike: bool) -> Iterator[Change]:
    if old.passed != new.passed:
        worse = old.passed is True and (new.passed is False or alike)
        yield Change(old.what, str(old), str(new), "criterion", worse)
    elif old.worst is not None and new.worst is not None and _grew(old.worst[1], new.worst[1]):
        yield Change(old.what, str(old), str(new), "margin")


def _row(
    where: str, old: Table, was: Sequence[Any], new: Table, now: Sequence[Any]
) -> Iterator[Change]:
    cells = {column.name: cell for column, cell in zip(old.columns, was, strict=True)}
    for column, after in zip(new.columns, now, strict=True):
        before = cells.get(column.name)
        if before is None or column.kind in (Kind.TEXT, Kind.WORD):
            continue
        what = "missing" if after is None else _changed(column.kind, before, after)
        if what is not None:
            a, b = (written(cell, column.kind) or "nothing" for cell in (before, after))
            worse = what == "count" and not middle(after) <= middle(before)
            yield Change(f"{where}, {column.name}", a, b, what, worse)


def _changed(kind: Kind, before: Any, after: Any) -> str | None:
    a, b = middle(before), middle(after)
    if math.isnan(a):
        return None
    if kind is Kind.COUNT:
        return "count" if a != b else None
    if kind in (Kind.ERROR, Kind.NUMBER):
        return kind.value if _grew(a, b) else None
    rounds = [cell for cell in (before, after) if isinstance(cell, Sequence) and len(cell) > 1]
    allowed = _MOVE * a if len(rounds) < 2 else max(max(cell) - min(cell) for cell in rounds)
    if abs(b - a) <= allowed:
        return None
    return "faster" if b < a else "slower"


def _grew(before: float, after: float) -> bool:
    """By more than a tenth, or to NaN."""
    return not math.isnan(before) and not after <= before + _GROWTH * abs(before)
