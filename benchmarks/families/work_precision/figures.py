"""Diagrams: errors at the end and on the way, against gradients and seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from .draw import Draw

# Okabe and Ito's colours: one for each family of methods. gradflow's are filled and solid, what
# they are measured against is hollow and broken; markers tell the members of a family apart.
_COLOURS = {
    "blue": "#0072B2", "sky": "#56B4E9", "purple": "#CC79A7", "vermillion": "#D55E00",
    "orange": "#E69F00", "green": "#009E73", "black": "#000000", "grey": "#777777",
}  # fmt: skip
_STYLES = {
    "auto": ("black", "*"),
    "bosh3": ("sky", "o"),
    "tsit5": ("blue", "s"),
    "dopri8": ("purple", "D"),
    "rkc2": ("vermillion", "o"),
    "rkl2": ("orange", "s"),
    "kvaerno3": ("green", "o"),
    "kvaerno3-cg": ("green", "s"),
    "kvaerno5-cg": ("green", "D"),
    "diffrax Tsit5": ("blue", "s"),
    "diffrax Dopri8": ("purple", "D"),
    "diffrax Kvaerno5": ("green", "D"),
    "extensisq SSV2stab": ("vermillion", "o"),
    "SciPy LSODA": ("grey", "^"),
    "SciPy BDF": ("grey", "v"),
    "SciPy DOP853": ("purple", "p"),
    "torchdiffeq dopri5": ("orange", "s"),
    "gradient descent": ("black", "x"),
    "RK4 at 1/sharpness": ("black", "+"),
}
_OTHER = ("orange", "P")  # a solver that has no style of its own yet

# Of the figure of a few problems side by side.
_PICKED = ("hi", "mlp", "transformer")
_KNOWN = (
    "auto", "diffrax Tsit5", "diffrax Kvaerno5", "SciPy LSODA", "extensisq SSV2stab",
    "torchdiffeq dopri5", "gradient descent",
)  # fmt: skip


def style(method: str) -> dict[str, Any]:
    """How the runs of a method are drawn: arguments of `matplotlib.axes.Axes.plot`."""
    colour, marker = _STYLES.get(method, _OTHER)
    own = " " not in method
    face = _COLOURS[colour] if own else "white"
    line = "-" if own else (0, (4.0, 1.5))
    size = 7 if marker == "*" else 4
    return {
        "color": _COLOURS[colour], "marker": marker, "ls": line, "lw": 1.1, "ms": size,
        "mfc": face, "mew": 0.9, "label": method, "zorder": 4 if method == "auto" else 3,
    }  # fmt: skip


def draw_diagrams(draw: Draw) -> Figure:
    """Four panels that share their axes by row and column, and a legend beside them."""
    figure = Figure(figsize=(8.6, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    for row, (kind, label) in enumerate(
        (("final", "error at the end"), ("worst", "worst error on the way"))
    ):
        for column, cost in enumerate(("evaluations", "wall")):
            ax = axes[row, column]
            for method, points in draw.methods.items():
                costs = [getattr(point, cost) for point in points]
                ax.plot(costs, [getattr(point, kind) for point in points], **style(method))
            _dress(ax)
        axes[row, 0].set_ylabel(label)
    axes[1, 0].set_xlabel("gradient evaluations")
    axes[1, 1].set_xlabel("seconds, compilation apart")
    title = f"{draw.case}, seed {draw.seed}: {draw.size:,} parameters, "
    figure.suptitle(title + rf"$\Lambda$ = {draw.stiffness:,.0f}", fontsize=10)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure


def draw_overview(draws: Sequence[Draw]) -> Figure:
    """Error against seconds on a few problems, of the default and of the peers best known."""
    figure = Figure(figsize=(8.5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(draws), squeeze=False)[0]
    handles = {}
    for ax, draw in zip(axes, draws, strict=True):
        for method in _KNOWN:
            points = draw.methods.get(method)
            if points:
                seconds, errors = [p.wall for p in points], [p.worst for p in points]
                larger = {"lw": 1.4, "ms": 9 if method == "auto" else 5}
                (handles[method],) = ax.plot(seconds, errors, **style(method) | larger)
        _dress(ax)
        ax.set_title(f"{draw.case}, {draw.size:,} weights", fontsize=10)
        ax.set_xlabel("seconds")
    axes[0].set_ylabel("worst error on the way")
    shown = [method for method in _KNOWN if method in handles]
    figure.legend(
        [handles[method] for method in shown],
        ["gradflow (auto)" if method == "auto" else method for method in shown],
        loc="outside lower center", ncols=4, frameon=False, fontsize=9,
    )  # fmt: skip
    return figure


def _dress(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.grid(color="0.9", lw=0.5)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
    ax.spines[["top", "right"]].set_visible(False)


def save(draws: Sequence[Draw], directory: Path) -> list[Path]:
    """The diagrams of each draw as a PNG, and a few side by side; returns where they are."""
    named = {f"work-precision-{draw.case}-{draw.seed}": draw_diagrams(draw) for draw in draws}
    if picked := [draw for draw in draws if draw.case in _PICKED and draw.seed == 0]:
        named["work-precision"] = draw_overview(picked)
    paths = []
    for name, figure in named.items():
        paths.append(directory / f"{name}.png")
        figure.savefig(paths[-1], dpi=150)
    return paths
