"""Seeds a second, devices and widths in one figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

_COLOURS = ("#0072B2", "#D55E00")


def save(data: dict[str, Any], directory: Path) -> Path:
    """Three panels; returns where they are."""
    figure = Figure(figsize=(8.5, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    many, spread, wide = figure.subplots(1, 3)
    for colour, (name, rows) in zip(_COLOURS, data["batches"].items(), strict=False):
        for way, line in (("loop", ":"), ("threads", "-")):
            rate = next(rate for found, _, rate in rows if found == way)
            many.axhline(rate, color=colour, ls=line, label=f"{name}, {way}")
        sizes = [(size, rate) for way, size, rate in rows if way.startswith("vmap")]
        many.plot(*zip(*sizes, strict=True), "o--", color=colour, label=f"{name}, vmap")
    many.set(yscale="log", xlabel="seeds at once (vmap)", ylabel="seeds a second")
    many.set_xscale("log", base=2)
    many.xaxis.set_major_formatter(ScalarFormatter())
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    meshes, seconds = zip(*data["devices"], strict=True)
    spread.bar(meshes, [1e3 * each for each in seconds], color=_COLOURS[0])
    spread.tick_params(axis="x", labelrotation=60)
    spread.set(xlabel="devices for data x parameters", ylabel="ms a gradient")
    widths, seconds = zip(*data["widths"], strict=True)
    wide.plot(widths, [1e3 * each for each in seconds], "o-", color=_COLOURS[0])
    wide.set(xscale="log", xlabel="width m = m$_1$", ylabel="ms, coupled system")
    wide.set_ylim(0, 1.1e3 * max(seconds))
    for ax in (many, spread, wide):
        ax.spines[["top", "right"]].set_visible(False)
    path = directory / "ensembles.png"
    figure.savefig(path, dpi=150)
    return path
