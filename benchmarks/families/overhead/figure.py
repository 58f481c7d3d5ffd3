"""The overhead by size, for each solver and precision."""

from __future__ import annotations

import statistics
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.families.work_precision.figures import style
from benchmarks.suite import Findings

from .sizes import PAPER


def draw(findings: Findings, directory: Path) -> list[Path]:
    """``overhead.png``: one panel for each precision."""
    table = findings.tables[0]
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, dtype in zip(axes, ("float64", "float32"), strict=True):
        rows = [row for row in table.rows if row[1] == dtype]
        for solver in dict.fromkeys(row[2] for row in rows):
            mine = [row for row in rows if row[2] == solver]
            by_size = [(row[3], statistics.median(row[7])) for row in mine if row[0] != PAPER]
            ax.plot(*zip(*by_size, strict=True), **style(solver))
            paper = [(row[3], statistics.median(row[7])) for row in mine if row[0] == PAPER]
            ax.plot(*zip(*paper, strict=True), **style(solver) | {"ls": "none", "label": None})
        ax.axhline(1.0, color="0.6", lw=0.8, zorder=1)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ticks = (0.5, 1, 2, 5, 10, 20)
        ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.yaxis.minorticks_off()
        ax.set_title(dtype, fontsize=10)
        ax.set_xlabel("parameters")
        ax.grid(color="0.9", lw=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("a gradient inside / a bare one")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    path = directory / "overhead.png"
    figure.savefig(path, dpi=200)
    return [path]
