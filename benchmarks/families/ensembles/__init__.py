"""Family F, ensembles and scaling: many seeds, several devices, and widths beyond memory."""

from __future__ import annotations

from pathlib import Path

from benchmarks.suite import Criterion, Effort, Family, Findings, Table
from benchmarks.suite.table import middle

from . import coupled, devices, figure, seeds

# Seeds, how many of them at once, and rounds.
_FULL = {"quickstart": (64, (4, 16, 64), 5), "cooccurrence": (16, (4, 16), 3)}
_QUICK = {"quickstart": (16, (4, 16), 3)}


def measure(effort: Effort) -> Findings:
    """Seeds by every way, devices in a process of their own, and the coupled system."""
    batches = {
        name: seeds.batches(name, *sizes, effort)
        for name, sizes in effort.pick(_FULL, _QUICK).items()
    }
    spread, rows = devices.measured(effort)
    paper, widths = coupled.paper(effort), coupled.widths(effort)
    criteria = [
        Criterion(
            "an ensemble on threads over a loop, seconds",
            1.0,
            {name: _column(table, "over the loop")["threads"] for name, table in batches.items()},
        ),
        Criterion(
            "error of a run over several devices against one",
            1e-10,
            _column(spread, "error against one"),
        ),
        Criterion("the coupled system at a width, seconds over those at 128", 1.2, _wider(widths)),
    ]
    tables = [seeds.whole_run(effort), *batches.values(), spread, paper, widths]
    data = {
        "batches": {
            name: [(row[0], row[1], middle(row[2])) for row in table.rows]
            for name, table in batches.items()
        },
        "devices": [(row["mesh"], middle(row["seconds"])) for row in rows],
        "widths": list(zip(coupled.WIDTHS, _column(widths, "seconds").values(), strict=True)),
    }
    skipped = (
        ["with --quick: seeds of cooccurrence, larger batches, and other meshes than 8 x 1"]
        if effort.quick
        else []
    )
    return Findings(tables, criteria, skipped, data)


def _column(table: Table, name: str) -> dict[str, float]:
    """A column's numbers, by the first text of the row."""
    index = [column.name for column in table.columns].index(name)
    return {row[0]: middle(row[index]) for row in table.rows}


def _wider(table: Table) -> dict[str, float]:
    return dict(list(_column(table, "over the first").items())[1:])


def draw(findings: Findings, directory: Path) -> list[Path]:
    """Seeds a second, time over devices, and time over widths."""
    return [figure.save(findings.data, directory)]


FAMILY = Family(
    "ensembles", "F", "what do many seeds, several devices and large widths take?", measure, draw
)
