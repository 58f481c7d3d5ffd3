"""Errors against the tolerances that were asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.families.work_precision.figures import style


def save(runs: Iterable[tuple[str, bool, float, float]], directory: Path) -> Path:
    """Two panels, gradflow's methods and the others; returns where they are.

    Args:
        runs: method, whether it is gradflow's, tolerance and worst error.
        directory: where to draw.
    """
    figure = Figure(figsize=(8.5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    runs = list(runs)
    for ax, ours, title in zip(axes, (True, False), ("gradflow", "peers"), strict=True):
        for method in dict.fromkeys(name for name, own, *_ in runs if own == ours):
            asked, came = np.array([run[2:] for run in runs if run[0] == method], dtype=float).T
            ax.plot(asked, came, **style(method) | {"ls": "none"})
        ends = np.array([min(run[2] for run in runs) / 2, max(run[2] for run in runs) * 2])
        ax.plot(ends, ends, color="black", lw=0.8)
        ax.plot(ends, 10 * ends, color="black", lw=0.8, ls=":")
        ax.set(xscale="log", yscale="log", title=title, xlabel="tolerance")
        ax.grid(color="0.9", lw=0.5)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False, fontsize=8
        )
    axes[0].set_ylabel("worst error on the way")
    axes[0].annotate(
        "ten times", (ends[0], 10 * ends[0]), xytext=(4, 14), textcoords="offset points", fontsize=8
    )
    path = directory / "fidelity.png"
    figure.savefig(path, dpi=150)
    return path
