"""Figures drawn from a trajectory.

Matplotlib is imported only to draw: on Agg canvases, without pyplot or global settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..analysis import HIGH, LOW, Band
from ..trajectory import Trajectory
from .curves import Curve, curves, line_style
from .figures import Figure, Panel, Reference
from .heat_map import HeatMap, draw_heat_map

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.text import Text

Marks = Mapping[str, float | Band | None]
Kind = Literal["png", "pdf", "svg"]
FILES: tuple[Kind, ...] = ("png", "pdf")


def draw(
    figure: Figure | HeatMap, trajectory: Trajectory, marks: Marks | None = None
) -> Canvas | None:
    """The figure, drawn from one trajectory; ``None`` when that has nothing to show in it.

    `marks` are times by name, e.g. ``{"T_half": 1.2, "T1": 14.3}``, with ``None`` for one that
    was not reached; phase k ends at ``Tk``. Over seeds a mark is a `gradflow.analysis.Band`.

    Raises:
        ValueError: a line is not one value per time, e.g. because `select` leaves an axis open.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> canvas = gf.plotting.draw(gf.plotting.LOSS, flow, marks={"T1": 1.0})
    >>> [ax.get_xscale() for ax in canvas.axes]
    ['linear', 'log']
    """
    if isinstance(figure, HeatMap):
        return draw_heat_map(figure, STYLE, set_ticks)
    shown = [(panel, found) for panel in figure.panels if (found := curves(panel, trajectory))]
    if not shown:
        return None
    import matplotlib

    with matplotlib.rc_context(STYLE):
        return _draw(shown, marks or {})


def render(
    figure: Figure | HeatMap,
    trajectory: Trajectory,
    marks: Marks | None = None,
    kinds: Sequence[Kind] = FILES,
) -> dict[Kind, bytes]:
    """The files of a figure, by their kind, the same bytes whenever it is drawn.

    PNG and PDF are on white paper; SVG has none, and its texts are outlines: it looks the same
    wherever it is shown.

    Returns:
        ``{}`` when the trajectory has nothing to show in the figure.

    Raises:
        ValueError: as `draw`.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> files = gf.plotting.render(gf.plotting.LOSS, flow, kinds=("png",))
    >>> files["png"][1:4]
    b'PNG'
    """
    drawn = draw(figure, trajectory, marks)
    if drawn is None:
        return {}
    import matplotlib

    metadata = {
        "png": {"Title": figure.name, "Description": figure.caption},
        "pdf": {"Title": figure.name, "Subject": figure.caption, "CreationDate": None},
        "svg": {"Title": figure.name, "Description": figure.caption, "Date": None},
    }
    files: dict[Kind, bytes] = {}
    with matplotlib.rc_context(STYLE):
        for kind in kinds:
            drawn.savefig(
                buffer := BytesIO(), format=kind, metadata=metadata[kind], transparent=kind == "svg"
            )
            files[kind] = buffer.getvalue()
    return files


# fmt: off
# STIX comes with matplotlib, so that every machine draws the same, and is embedded three times
# as fast as its default. Type 42, because publishers refuse type 3.
STYLE: dict[Any, Any] = {
    "font.family": "STIXGeneral", "font.size": 8.0, "mathtext.fontset": "stix", "pdf.fonttype": 42,
    "svg.fonttype": "path", "svg.hashsalt": "gradflow",
    "axes.labelsize": 8.5, "axes.labelpad": 2.5, "axes.linewidth": 0.6, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.2,
    "axes.formatter.useoffset": False, "axes.formatter.limits": (-3, 4),
    "axes.grid": True, "grid.color": "0.9", "grid.linewidth": 0.4,
    "xtick.labelsize": 7.5, "xtick.major.width": 0.6, "xtick.major.size": 3.0,
    "ytick.labelsize": 7.5, "ytick.major.width": 0.6, "ytick.major.size": 3.0,
    "legend.fontsize": 7.5, "legend.frameon": False, "legend.handlelength": 2.4,
    "legend.handletextpad": 0.5, "legend.columnspacing": 1.4, "legend.labelspacing": 0.3,
    "legend.borderpad": 0.0, "legend.borderaxespad": 0.0,
}
# fmt: on
_DPI = 200
# The page, in inches.
_WIDTHS = {1: 3.4, 2: 6.9}
_HEIGHT = 1.8  # of the axes
_BOTTOM = 0.37  # below them: ticks and "time t"
_RIGHT = 0.12  # room for half a tick label
_GAP = 0.28  # left of the axes at least, for a panel letter
_MARK_ROW = 0.19  # above the axes: panel letters and the names of the marks
_PAD = 0.05


@cache
def _ruler() -> RendererAgg:
    """Measures texts, for all figures: it remembers formulas, and each costs milliseconds."""
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, _DPI)


def _draw(shown: list[tuple[Panel, list[Curve]]], marks: Marks) -> Canvas:
    """Plots, then sets the page by what it measures; matplotlib's layouts draw once more."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    count, width = len(shown), _WIDTHS[len(shown)]
    sides = [vars(panel) | {"xscale": ""} for panel, _ in shown]
    shared = count == 2 and sides[0] == sides[1]
    canvas = Canvas(figsize=(width, _HEIGHT), dpi=_DPI)
    axes, keys, margins = [], [], []
    for panel, drawn in shown:
        # Of their final height already, for the ticks to be measured depend on it.
        axes.append(canvas.add_axes((0.2, 0, 0.3, 1), sharey=axes[0] if shared and axes else None))
        keys.append(plot_curves(axes[-1], panel, drawn))
    for ax, (panel, drawn) in zip(axes, shown, strict=True):
        set_ticks(ax.yaxis, panel.yscale, panel.ylabel or drawn[0].name)
        if shared and ax is axes[1]:
            ax.tick_params(axis="y", labelleft=False)
            ax.set_ylabel("")
        box = ax.yaxis.get_tightbbox(_ruler())
        margins.append(max(_GAP, (ax.bbox.x0 - box.x0) / _DPI + _PAD) if box else _GAP)

    each = (width - sum(margins)) / count - _RIGHT
    lefts = [margins[0], width - _RIGHT - each][:count]
    top = _BOTTOM + _HEIGHT
    marked = marks and any(not panel.xlabel for panel, _ in shown)
    base = top + (_MARK_ROW if marked or count > 1 else _PAD)
    legends = [(entries, left, left + each) for entries, left in zip(keys, lefts, strict=True)]
    looks = [{_look(artist) for artist in entries} for entries in keys]
    if shared or (all(looks) and count == 2 and (looks[0] <= looks[1] or looks[1] <= looks[0])):
        legends = [(max(keys, key=len), lefts[0], lefts[-1] + each)]
    height = base + max(_legend(canvas, *legend, base) for legend in legends) + _PAD
    canvas.set_size_inches(width, height)
    FigureCanvasAgg(canvas).get_renderer().mathtext_parser = _ruler().mathtext_parser
    for i, (ax, left) in enumerate(zip(axes, lefts, strict=True)):
        ax.set_position((left / width, _BOTTOM / height, each / width, _HEIGHT / height))
        panel = shown[i][0]
        set_ticks(ax.xaxis, panel.xscale, panel.xlabel or "time $t$")
        ax.xaxis.set_label_coords(0.5, -0.215 / _HEIGHT)
        if not panel.xlabel:
            _mark(ax, marks)
        if count > 1:
            canvas.text((left - margins[i] + _PAD) / width, (top + 0.07) / height, f"({'ab'[i]})")
    return canvas


def plot_curves(ax: Axes, panel: Panel, drawn: list[Curve]) -> list[Artist]:
    """Puts curves and references on the axes; returns what the legend should name."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    artists: list[Artist] = [ax.plot(c.x, c.y, **c.style)[0] for c in drawn]
    for curve in drawn:
        if np.any(curve.low < curve.high):
            low = curve.low
            if panel.yscale == "log":
                # An error may be larger than the value; quantiles are values themselves.
                positive = curve.low[curve.low > 0] if curve.seeds else curve.y / 2
                low = np.maximum(low, positive.min(initial=curve.y.min()))
            colour = curve.style["color"]
            if curve.points:
                ax.vlines(curve.x, low, curve.high, color=colour, lw=0.8)
            else:
                ax.fill_between(curve.x, low, curve.high, color=colour, alpha=0.2, lw=0)
    ax.set_xscale(panel.xscale)
    span = np.concatenate([curve.span for curve in drawn])
    # Points need room at the ends, and matplotlib leaves some.
    if span.min() < span.max() and not any(line.points for line in panel.lines):
        ax.set_xlim(span.min(), span.max())
    ax.set_xlim(ax.get_xlim())  # and so it stays, whatever is added
    artists += [_refer(ax, reference) for reference in panel.references]
    largest = max(np.abs(curve.y).max() for curve in drawn)
    symlog = {"linthresh": 1e-3 * largest or 1.0} if panel.yscale == "symlog" else {}
    ax.set_yscale(panel.yscale, **symlog)
    alone = len(drawn) == 1 and not any(reference.label for reference in panel.references)
    if alone and drawn[0].style["label"] in (panel.ylabel or drawn[0].name):
        artists = []  # the axis names it
    artists = [artist for artist in artists if not str(artist.get_label() or "_").startswith("_")]
    if seeds := max(curve.seeds for curve in drawn):
        told = rf"median and {100 * LOW:.0f} to {100 * HIGH:.0f} % of {seeds} seeds"
        colour = drawn[0].style["color"] if len(drawn) == 1 else "0.5"
        if all(curve.points for curve in drawn if curve.seeds):
            bar = {"color": colour, "marker": "|", "ms": 8, "ls": ""}
            artists.append(Line2D([], [], label=told, **bar))
        else:
            artists.append(Patch(fc=colour, alpha=0.35, lw=0, label=told))
    return artists


def _refer(ax: Axes, reference: Reference) -> Artist:
    """Draws a reference, a sloping one as far as the x axis goes."""
    low, label = reference.low, reference.label
    if reference.high is not None:
        return ax.axhspan(low, reference.high, label=label, fc="0.93", zorder=0.3)
    style = line_style(reference.colour, reference.dash)
    style |= {"lw": 0.7, "zorder": 0.7, "label": label}
    if not reference.slope:
        return ax.axhline(low, **style)
    ends = np.array(ax.get_xlim())
    return ax.plot(ends, low * ends**reference.slope, **style)[0]


def _look(artist: Artist) -> tuple[str, str]:
    """What tells one entry of a legend from another: its name and its colour."""
    from matplotlib.lines import Line2D

    colour = artist.get_color() if isinstance(artist, Line2D) else ""
    return str(artist.get_label()), str(colour)


def set_ticks(axis: Axis, scale: str, label: str) -> None:
    """Chooses the ticks and names the axis, with the power of ten that its numbers share."""
    from matplotlib.ticker import AutoLocator, FixedLocator, LogLocator, ScalarFormatter

    def power(value: float) -> str:
        return f"${'-' if value < 0 else ''}10^{{{round(np.log10(abs(value)))}}}$" if value else "0"

    low, high = axis.get_view_interval()
    if scale == "log" and high < 100 * low:
        # Numbers side by side need more room than numbers one above the other.
        crowded = axis is axis.axes.xaxis and high > 20 * low
        few = LogLocator(subs=(1.0, 3.0) if crowded else (1.0, 2.0, 3.0, 5.0))
        if high <= 4 * low:  # there may be only one of these
            few = AutoLocator()
        axis.set_major_locator(few)
        axis.set_major_formatter(ScalarFormatter())
    elif scale != "linear":
        plain = scale == "log" and low > 9e-4 and high < 1e4
        axis.set_major_formatter("{x:g}" if plain else lambda value, _: power(value))
    if scale == "log":
        # Two in a decade, not eight: ticks take half of the drawing time.
        axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axis.set_minor_formatter("")
    # Settled now, or matplotlib chooses again by the settings under which it saves.
    places = [float(at) for at in axis.get_majorticklocs() if low <= at <= high]
    axis.set_minor_locator(FixedLocator(list(axis.get_minorticklocs())))
    axis.set_major_locator(FixedLocator(places))
    formatter = axis.get_major_formatter()
    if isinstance(formatter, ScalarFormatter):
        # Matplotlib writes it at the end of the axis, where the marks have their names.
        axis.get_offset_text().set_visible(False)
        formatter.format_ticks(places)
        if shared := formatter.get_offset().replace("\N{MINUS SIGN}", "-"):
            label += rf" ($\times${power(float(shared))})"
    axis.set_label_text(label)


def _legend(canvas: Canvas, keys: list[Artist], low: float, high: float, base: float) -> float:
    """Stands a legend on height `base`, in as few rows as fit; returns how tall it is."""
    for rows in range(1, len(keys) + 1):
        at = {"bbox_to_anchor": ((low + high) / 2, base), "bbox_transform": canvas.dpi_scale_trans}
        legend = canvas.legend(handles=keys, ncols=-(-len(keys) // rows), loc="lower center", **at)
        box = legend.get_window_extent(_ruler())
        if box.width <= (high - low) * _DPI or rows == len(keys):
            return box.height / _DPI
        legend.remove()
    return 0.0


def _mark(ax: Axes, marks: Marks) -> None:
    """Draws the marks that were reached, and names them and the phases above the axes."""
    low, high = ax.get_xlim()
    reached = []
    for name, at in marks.items():
        time = at.median if isinstance(at, Band) else at
        if time is None or not low <= time <= high:
            continue
        reached.append((float(time), name))
        if isinstance(at, Band):
            ax.axvspan(float(at.low), float(at.high), fc="0.35", alpha=0.12, lw=0, zorder=0.5)
    reached.sort()
    if not reached:
        return
    # From here on, places and widths are fractions of the width of the axes.
    total, above = ax.get_window_extent().width, 1 + 0.07 / _HEIGHT
    gap = _PAD * _DPI / total

    def write(text: str, **style: Any) -> tuple[Text, float]:
        written = ax.text(0.0, above, text, transform=ax.transAxes, ha="center", **style)
        return written, written.get_window_extent(_ruler()).width / total

    texts, widths, lines, ends = [], [], [], {}
    for time, name in reached:
        ax.axvline(time, color="0.35", lw=0.6, ls=(0, (4.0, 2.5)), zorder=0.8)
        below = name[1:].replace("_half", "1/2")
        text, width = write(f"$T_{{{below}}}$" if re.fullmatch(r"T(\d+|_half)", name) else name)
        texts.append(text)
        widths.append(width)
        lines.append((ax.transData - ax.transAxes).transform((time, 1.0))[0])
        if re.fullmatch(r"T\d+", name):
            ends[int(below)] = lines[-1]
    # From shoulder to shoulder at the left end, as far to the right as each must and may go.
    halves = np.array(widths) / 2
    packed = np.cumsum(2 * halves + gap) - halves - gap
    slack = max(0.0, 1.0 - packed[-1] - halves[-1])
    centres = packed + np.clip(np.maximum.accumulate(lines - packed), 0.0, slack)
    for text, centre in zip(texts, centres, strict=True):
        text.set_x(centre)

    if ends:
        ends[max(ends) + 1] = 1.0
    start = 0.0
    for number, end in ends.items():
        # In the widest gap between the names.
        lefts = np.maximum(start, [start, *(centres + halves)])
        rights = np.minimum(end, [*(centres - halves), end])
        widest = np.argmax(rights - lefts)
        text, width = write(f"phase {number}", color="0.45", style="italic")
        text.set_x((lefts[widest] + rights[widest]) / 2)
        if width + 2 * gap > rights[widest] - lefts[widest]:
            text.remove()
        start = end
