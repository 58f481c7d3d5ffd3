"""What the axes show of each line: its values, its colour, dash and marker."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..analysis import band
from ..trajectory import SEED, Trajectory
from .figures import Colour, Dash, Line, Panel

# fmt: off
# Okabe and Ito's colours, without the yellow that vanishes on white paper.
_COLOURS: dict[Colour, str] = {
    "black": "#000000", "blue": "#0072B2", "vermillion": "#D55E00", "green": "#009E73",
    "purple": "#CC79A7", "orange": "#E69F00", "sky": "#56B4E9",
}
# For ordered families, from light to dark: matplotlib's "inferno" without the ends that vanish
# on white paper and beside black. Steps of lightness are even, also to the colour-blind.
_RAMP = "#fa9207", "#eb6628", "#ce4347", "#a82e5f", "#7d1e6d", "#540f6d", "#260c51"
_DASHES: dict[Dash, Any] = {
    "solid": "solid", "dashed": (0, (4.0, 1.5)), "dashdot": (0, (5.0, 1.3, 1.0, 1.3)),
    "dotted": (0, (1.0, 1.2)), "long": (0, (9.0, 2.0)),
    "dashdotdot": (0, (5.0, 1.2, 1.0, 1.2, 1.0, 1.2)),
}
# fmt: on
_CYCLE = tuple(zip(list(_COLOURS)[1:], _DASHES, "osD^vP", strict=True))


class Curve(NamedTuple):
    """What the axes show of a line; arrays of shape ``(n,)``, `span` aside."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray  # the band around y, of no height where there is none
    high: np.ndarray
    span: np.ndarray  # all of x that the axis can show, also where the values are lost
    name: str  # for the axis
    style: dict[str, Any]
    points: bool = False  # whether it is these alone, without a line
    seeds: int = 0  # over which y is the median and the band that of `gradflow.analysis.band`


def colour_code(colour: Colour | float) -> str:
    """The colour as ``#rrggbb``; a number is its place on the ramp from 0, light, to 1, dark."""
    if isinstance(colour, str):
        return _COLOURS[colour]
    ramp = np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in _RAMP])
    places = np.linspace(0.0, 1.0, len(ramp))
    return "#" + "".join(f"{round(np.interp(colour, places, part)):02x}" for part in ramp.T)


def line_style(colour: Colour | float | None, dash: Dash) -> dict[str, Any]:
    """How matplotlib draws a line of this colour, grey if ``None``, and this dash."""
    return {"color": "0.5" if colour is None else colour_code(colour), "ls": _DASHES[dash]}


def curves(panel: Panel, trajectory: Trajectory) -> list[Curve]:
    """What the axes can show of each line, without the lines of which that is nothing.

    Raises:
        ValueError: a line is not one value per time.
    """
    found = []
    for line, (colour, dash, marker) in zip(panel.lines, _CYCLE * len(panel.lines), strict=False):
        try:
            x, y, half, name = _series(line, trajectory)
        except KeyError:
            continue
        seeds = trajectory.coords[SEED].size if SEED in trajectory.coords else 0
        low, high = y - half, y + half
        if seeds and y.shape == (*x.shape, seeds):
            low, y, high = band(y)
        else:
            seeds = 0
        label = line.label or ", ".join(f"{a} {at}" for a, at in line.select.items()) or name
        if x.ndim != 1 or y.shape != x.shape:
            shapes = f"times of shape {x.shape} and values of shape {y.shape}"
            raise ValueError(f"the line {label!r} has {shapes}; select a label on every other axis")
        within = np.isfinite(x) & ((x > 0) | (panel.xscale != "log"))
        # Matplotlib overflows well before infinity.
        keep = within & (np.abs(y) < 1e100) & ((y > 0) | (panel.yscale != "log"))
        if not keep.any():
            continue
        style = line_style(colour if line.colour is None else line.colour, line.dash or dash)
        # One or two points make no line to be seen.
        style |= {"label": label, "marker": "o" if keep.sum() <= 2 else "", "ms": 3}
        if line.points:
            style |= {"ls": "", "marker": marker, "ms": 4}
        low, high = (np.where(np.isfinite(edge), edge, y)[keep] for edge in (low, high))
        found.append(Curve(x[keep], y[keep], low, high, x[within], name, style, line.points, seeds))
    return found


def _series(line: Line, trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """What is along x, the values, half the height of their band, and a name for the axis."""
    spread = line.spread
    if callable(line.variable):
        x, y = line.variable(trajectory)
        name = line.label
    else:
        x, y = trajectory.times(line.variable), trajectory.sel(line.variable, **line.select)
        variable = trajectory.variables[line.variable]
        units = f" ({variable.units})" if variable.units not in ("", "1") else ""
        name = (variable.label or line.variable) + units
        error = trajectory.variables.get(f"{line.variable}_error")
        if not spread and error and error.dims == variable.dims:
            spread = f"{line.variable}_error"
    half = np.asarray(trajectory.sel(spread, **line.select) if spread else 0.0, float)
    return np.asarray(x, float), np.asarray(y, float), half, name
