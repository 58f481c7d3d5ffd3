"""Figures drawn from a trajectory.

Matplotlib is imported only to draw: on Agg canvases, without pyplot or global settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..trajectory import Trajectory
from .figures import Figure, Panel

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.text import Text

Marks = Mapping[str, float | None]


def draw(figure: Figure, trajectory: Trajectory, marks: Marks | None = None) -> Canvas | None:
    """The figure, drawn from one trajectory; ``None`` when that has nothing to show in it.

    `marks` are times by name, e.g. ``{"T_half": 1.2, "T1": 14.3}``, with ``None`` for one that
    was not reached; phase k ends at ``Tk``.

    Raises:
        ValueError: a line is not one value per time, e.g. because `select` leaves an axis open.
    """
    shown = [(panel, curves) for panel in figure.panels if (curves := _curves(panel, trajectory))]
    if not shown:
        return None
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        return _draw(shown, marks or {})


def render(figure: Figure, trajectory: Trajectory, marks: Marks | None = None) -> dict[str, bytes]:
    """The files of a figure, ``{"png": ..., "pdf": ...}``, the same bytes whenever it is drawn.

    ``{}`` when the trajectory has nothing to show in it; raises what `draw` raises.
    """
    drawn = draw(figure, trajectory, marks)
    if drawn is None:
        return {}
    import matplotlib

    metadata = {
        "png": {"Title": figure.name, "Description": figure.caption},
        "pdf": {"Title": figure.name, "Subject": figure.caption, "CreationDate": None},
    }
    files = {}
    with matplotlib.rc_context(_STYLE):
        for kind, entries in metadata.items():
            drawn.savefig(buffer := BytesIO(), format=kind, metadata=entries)
            files[kind] = buffer.getvalue()
    return files


# fmt: off
# Okabe and Ito's colours, without the yellow that vanishes on white paper.
_COLOURS = {
    "black": "#000000", "blue": "#0072B2", "vermillion": "#D55E00", "green": "#009E73",
    "purple": "#CC79A7", "orange": "#E69F00", "sky": "#56B4E9",
}
_DASHES = {
    "solid": "solid", "dashed": (0, (4.0, 1.5)), "dashdot": (0, (5.0, 1.3, 1.0, 1.3)),
    "dotted": (0, (1.0, 1.2)), "long": (0, (9.0, 2.0)),
    "dashdotdot": (0, (5.0, 1.2, 1.0, 1.2, 1.0, 1.2)),
}
# STIX comes with matplotlib, so that every machine draws the same, and is embedded three times
# as fast as its default. Type 42, because publishers refuse type 3.
_STYLE: dict[Any, Any] = {
    "font.family": "STIXGeneral", "font.size": 8.0, "mathtext.fontset": "stix", "pdf.fonttype": 42,
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
_CYCLE = tuple(zip(list(_COLOURS)[1:], _DASHES, strict=True))
_DPI = 200
# The page, in inches.
_WIDTHS = {1: 3.4, 2: 6.9}
_HEIGHT = 1.8  # of the axes
_BOTTOM = 0.36  # below them: ticks and "time t"
_RIGHT = 0.12  # room for half a tick label
_GAP = 0.28  # left of the axes at least, for a panel letter
_MARK_ROW = 0.19  # above the axes: panel letters and the names of the marks
_PAD = 0.05


class _Curve(NamedTuple):
    times: np.ndarray
    values: np.ndarray
    spread: np.ndarray  # zero where there is none
    span: np.ndarray  # all the times that the axis can show, those of lost values too
    name: str  # for the axis
    style: dict[str, Any]


def _curves(panel: Panel, trajectory: Trajectory) -> list[_Curve]:
    """What the axes can show of each line, without the lines of which that is nothing."""
    curves = []
    half: np.ndarray | float
    for line, (colour, dash) in zip(panel.lines, _CYCLE * len(panel.lines), strict=False):
        spread = line.spread
        try:
            if callable(line.variable):
                times, values = line.variable(trajectory)
                name = line.label
            else:
                values = trajectory.sel(line.variable, **line.select)
                times = trajectory.times(line.variable)
                found = trajectory.variables[line.variable]
                units = f" ({found.units})" if found.units not in ("", "1") else ""
                name = (found.label or line.variable) + units
                error = trajectory.variables.get(f"{line.variable}_error")
                if not spread and error and error.dims == found.dims:
                    spread = f"{line.variable}_error"
            half = trajectory.sel(spread, **line.select) if spread else 0.0
        except KeyError:
            continue
        label = line.label or ", ".join(f"{a} {at}" for a, at in line.select.items()) or name
        if times.ndim != 1 or values.shape != times.shape:
            shapes = f"times of shape {times.shape} and values of shape {values.shape}"
            raise ValueError(f"the line {label!r} has {shapes}; select a label on every other axis")
        times, values = np.asarray(times, float), np.asarray(values, float)
        within = np.isfinite(times) & ((times > 0) | (panel.xscale != "log"))
        # Matplotlib overflows well before infinity.
        keep = within & (np.abs(values) < 1e100) & ((values > 0) | (panel.yscale != "log"))
        if keep.any():
            style = {"color": _COLOURS[line.colour or colour], "ls": _DASHES[line.dash or dash]}
            # One or two points make no line to be seen.
            style |= {"label": label, "marker": "o" if keep.sum() <= 2 else "", "ms": 3}
            half = np.broadcast_to(np.nan_to_num(np.asarray(half, float)), times.shape)[keep]
            curves.append(_Curve(times[keep], values[keep], half, times[within], name, style))
    return curves


@cache
def _ruler() -> RendererAgg:
    """Measures texts, for all figures: it remembers formulas, and each costs milliseconds."""
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, _DPI)


def _draw(shown: list[tuple[Panel, list[_Curve]]], marks: Marks) -> Canvas:
    """Plots, then sets the page by what it measures; matplotlib's layouts draw once more."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    count, width = len(shown), _WIDTHS[len(shown)]
    shared = count == 2 and replace(shown[0][0], xscale=shown[1][0].xscale) == shown[1][0]
    canvas = Canvas(figsize=(width, _HEIGHT), dpi=_DPI)
    axes, keys, margins = [], [], []
    for panel, curves in shown:
        # Of their final height already, for the ticks to be measured depend on it.
        axes.append(canvas.add_axes((0.2, 0, 0.3, 1), sharey=axes[0] if shared and axes else None))
        keys.append(_plot(axes[-1], panel, curves))
    for ax, (panel, curves) in zip(axes, shown, strict=True):
        _set_ticks(ax.yaxis, panel.yscale, panel.ylabel or curves[0].name)
        if shared and ax is axes[1]:
            ax.tick_params(axis="y", labelleft=False)
            ax.set_ylabel("")
        box = ax.yaxis.get_tightbbox(_ruler())
        margins.append(max(_GAP, (ax.bbox.x0 - box.x0) / _DPI + _PAD) if box else _GAP)

    each = (width - sum(margins)) / count - _RIGHT
    lefts = [margins[0], width - _RIGHT - each][:count]
    top = _BOTTOM + _HEIGHT
    base = top + (_MARK_ROW if marks or count > 1 else _PAD)
    legends = [(entries, left, left + each) for entries, left in zip(keys, lefts, strict=True)]
    if shared:
        legends = [(max(keys, key=len), lefts[0], lefts[1] + each)]
    height = base + max(_legend(canvas, *legend, base) for legend in legends) + _PAD
    canvas.set_size_inches(width, height)
    FigureCanvasAgg(canvas).get_renderer().mathtext_parser = _ruler().mathtext_parser
    for i, (ax, left) in enumerate(zip(axes, lefts, strict=True)):
        ax.set_position((left / width, _BOTTOM / height, each / width, _HEIGHT / height))
        _set_ticks(ax.xaxis, shown[i][0].xscale, "time $t$")
        ax.xaxis.set_label_coords(0.5, -0.2 / _HEIGHT)
        _mark(ax, marks)
        if count > 1:
            canvas.text((left - margins[i] + _PAD) / width, (top + 0.07) / height, f"({'ab'[i]})")
    return canvas


def _plot(ax: Axes, panel: Panel, curves: list[_Curve]) -> list[Artist]:
    """Puts curves and references on the axes; returns what the legend should name."""
    drawn: list[Artist] = [ax.plot(c.times, c.values, **c.style)[0] for c in curves]
    for curve in curves:
        if curve.spread.any():
            low, high = curve.values - curve.spread, curve.values + curve.spread
            if panel.yscale == "log":
                low = np.maximum(low, curve.values.min() / 2)
            ax.fill_between(curve.times, low, high, color=curve.style["color"], alpha=0.2, lw=0)
    for ref in panel.references:
        if ref.high is None:
            drawn.append(ax.axhline(ref.low, label=ref.label, color="0.5", lw=0.7, zorder=0.7))
        else:
            drawn.append(ax.axhspan(ref.low, ref.high, label=ref.label, fc="0.93", zorder=0.3))
    ax.set_xscale(panel.xscale)
    span = np.concatenate([curve.span for curve in curves])
    if span.min() < span.max():
        ax.set_xlim(span.min(), span.max())
    largest = max(np.abs(curve.values).max() for curve in curves)
    symlog = {"linthresh": 1e-3 * largest or 1.0} if panel.yscale == "symlog" else {}
    ax.set_yscale(panel.yscale, **symlog)
    if len(curves) == 1 and not any(ref.label for ref in panel.references):
        return []  # the axis names it
    return [artist for artist in drawn if not str(artist.get_label() or "_").startswith("_")]


def _set_ticks(axis: Axis, scale: str, label: str) -> None:
    """Chooses the ticks and names the axis, with the power of ten that its numbers share."""
    from matplotlib.ticker import AutoLocator, FixedLocator, LogLocator, ScalarFormatter

    def power(value: float) -> str:
        return f"${'-' if value < 0 else ''}10^{{{round(np.log10(abs(value)))}}}$" if value else "0"

    low, high = axis.get_view_interval()
    if scale == "log" and high < 100 * low:
        # Within a factor of four there may be only one of these.
        few = LogLocator(subs=(1.0, 2.0, 3.0, 5.0)) if high > 4 * low else AutoLocator()
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
    reached = [(time, name) for name, time in marks.items() if time is not None]
    reached = sorted(mark for mark in reached if low <= mark[0] <= high)
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
