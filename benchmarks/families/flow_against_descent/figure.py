"""The whole-run error against wall time, of flows and descents."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.suite import Findings

from . import descents, flows

# Okabe and Ito's colours; what is not gradflow's is hollow.
_FLOWS = {
    flows.OWN: ("gf.solve", "#000000", "*", "-"),
    flows.DIFFRAX: (flows.DIFFRAX, "#0072B2", "s", "--"),
    flows.TORCHDIFFEQ: (flows.TORCHDIFFEQ, "#009E73", "D", "--"),
}
_DESCENTS = {
    descents.OPTAX: ("#D55E00", "o"),
    descents.TORCH: ("#CC79A7", "^"),
    descents.OWN: ("#000000", "x"),
}


def draw(findings: Findings, directory: Path) -> list[Path]:
    """One figure; see `benchmarks.suite.Family`."""
    data = findings.data
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, points in data["flows"].items():
        label, colour, marker, line = _FLOWS[name]
        axes.plot(
            [p["wall"] for p in points],
            [p["worst"] for p in points],
            color=colour,
            marker=marker,
            ls=line,
            lw=1.2,
            ms=8 if marker == "*" else 4.5,
            mfc=colour if name == flows.OWN else "white",
            label=label,
        )
    axes.plot(
        [p["wall"] for p in data["rates"]],
        [p["worst"] for p in data["rates"]],
        color="#E69F00",
        marker="v",
        mfc="white",
        ls="--",
        lw=1.2,
        ms=5,
        label=descents.LOOP,
    )
    for point in data["rates"]:
        axes.annotate(
            rf"$\eta = {point['rate']:g}$",
            (point["wall"], point["worst"]),
            xytext=(-5, -4),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8,
        )
    for name, (colour, marker) in _DESCENTS.items():
        if (point := data["descents"].get(name)) is not None:
            axes.plot(
                point["wall"], point["worst"], color=colour, marker=marker, mfc="none", ls="none",
                ms=6, mew=1.3, label=rf"{name}, $\eta = 0.01$",
            )  # fmt: skip
    axes.axhline(data["target"], color="0.6", lw=0.8, ls=":", zorder=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("wall time to t = 300 in seconds, compilation apart")
    axes.set_ylabel("worst error on the way")
    axes.grid(color="0.92", lw=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "flow-against-descent.png"
    figure.savefig(path, dpi=150)
    return [path]
