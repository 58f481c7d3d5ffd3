"""What a family has measured, row by row: for a page, for a file, and for a comparison."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a column holds, which says how it is written and how two files are compared."""

    TEXT = "text"  # names the row, with all others of this kind
    WORD = "word"  # text that was found, and does not name the row
    COUNT = "count"  # repeats to the last digit
    SECONDS = "seconds"  # of every round
    RATIO = "ratio"  # of every round, or one number
    ERROR = "error"  # relative to the distance travelled
    NUMBER = "number"  # anything else


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: its head, with the unit where the kind does not say it.
        kind: what it holds.
    """

    name: str
    kind: Kind = Kind.TEXT


@dataclass
class Table:
    """Rows under columns; a cell is text, a number, a list of one number a round, or ``None``.

    Attributes:
        title: what is measured, in one line.
        columns: of all rows.
        rows: one cell for each column.
        note: how to read it, where the columns do not say.
    """

    title: str
    columns: tuple[Column, ...]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    note: str = ""

    def add(self, *cells: Any) -> None:
        """One row more.

        Raises:
            ValueError: there are more or fewer cells than columns.
        """
        if len(cells) != len(self.columns):
            raise ValueError(f"{self.title}: {len(cells)} cells for {len(self.columns)} columns")
        self.rows.append(cells)

    def key(self, row: tuple[Any, ...]) -> tuple[str, ...]:
        """The row's name: its texts."""
        return tuple(
            str(cell)
            for column, cell in zip(self.columns, row, strict=True)
            if column.kind is Kind.TEXT
        )

    def markdown(self) -> str:
        """The table as GitHub's Markdown, numbers to the right."""
        words = (Kind.TEXT, Kind.WORD)
        rules = ["---" if c.kind in words else "---:" for c in self.columns]
        lines = [[c.name for c in self.columns], rules]
        lines += [
            [written(cell, c.kind) for c, cell in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join(part for part in (f"**{self.title}**", table, self.note) if part)


def middle(cell: Any) -> float:
    """The number that a cell stands for: the median of its rounds."""
    return float(statistics.median(cell)) if isinstance(cell, Sequence) else float(cell)


def written(cell: Any, kind: Kind) -> str:
    """A cell as text; the least and the largest of several rounds in brackets."""
    if cell is None:
        return ""
    if kind in (Kind.TEXT, Kind.WORD):
        return str(cell).replace("|", "\\|")
    number = _number(middle(cell), kind)
    if isinstance(cell, Sequence) and len(cell) > 1:
        return f"{number} ({_number(min(cell), kind)} to {_number(max(cell), kind)})"
    return number


def _number(value: float, kind: Kind) -> str:
    if kind is Kind.COUNT:
        return f"{value:,.0f}"
    if kind is Kind.ERROR:
        return f"{value:.1e}"
    if kind is Kind.SECONDS:
        for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
            if value >= size:
                return f"{value / size:.3g} {unit}"
        return f"{value / 1e-9:.3g} ns"
    return f"{value:.3g}"
