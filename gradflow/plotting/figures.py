"""Figures as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ..trajectory import Trajectory

Colour = Literal["black", "blue", "vermillion", "green", "purple", "orange", "sky"]
Dash = Literal["solid", "dashed", "dashdot", "dotted", "long", "dashdotdot"]
Series = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Line:
    """One curve, left out where the trajectory lacks what it is drawn from.

    Attributes:
        variable: the name of a variable, drawn against its times, or a function of the
            trajectory that returns times, or what else the panel has along x, and values, both
            of shape ``(n,)``, and raises `KeyError` where something is missing.
        select: one label on every axis of the variable but time, e.g. ``{"key": 2, "query": 1}``.
        label: its name in the legend; otherwise what `select` says, or the variable's own label.
        colour: a number for a member of an ordered family, its place from 0, light, to 1, dark;
            otherwise the next colour.
        dash: otherwise the next dash, so that curves can be told apart in grey.
        spread: the name of a variable of the same axes, half the height of a band around the
            curve; otherwise ``<variable>_error`` where the trajectory has it on these axes.
        points: draws the values as points without a line, for few that were measured.

    >>> import gradflow as gf
    >>> line = gf.plotting.Line("attention_score", {"key": 2, "query": 1}, label="score of word 2")
    >>> line.variable, line.select["key"]
    ('attention_score', 2)
    """

    variable: str | Callable[[Trajectory], Series]
    select: Mapping[str, str | float] = field(default_factory=dict)
    label: str = ""
    colour: Colour | float | None = None
    dash: Dash | None = None
    spread: str = ""
    points: bool = False


@dataclass(frozen=True)
class Reference:
    """A horizontal line at `low`, or a band from `low` to `high`; with a label in the legend.

    Attributes:
        low, high: where it is.
        label: its name in the legend.
        slope: makes a line the power law ``low * x**slope``, straight on logarithmic axes.
        colour: of a line, as a `Line` has it; otherwise grey.
        dash: of a line.

    >>> import gradflow as gf
    >>> line, half = gf.plotting.Line("loss"), gf.plotting.Reference(0.5, label="half")
    >>> gf.plotting.Panel((line,), references=(half,)).references[0].low
    0.5
    """

    low: float
    high: float | None = None
    label: str = ""
    slope: float = 0.0
    colour: Colour | float | None = None
    dash: Dash = "solid"


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        lines: the curves.
        ylabel: otherwise the first curve's variable, with units.
        yscale: ``"log"`` leaves out values that are not positive; ``"symlog"`` is linear below a
            thousandth of the largest.
        xscale: how time runs; ``"log"`` leaves out time 0.
        references: what to compare with; the y axis reaches as far as they do.
        xlabel: what is along x where that is not time; marks and phases are then left out.

    >>> import gradflow as gf
    >>> panel = gf.plotting.Panel((gf.plotting.Line("loss"),), yscale="log", xscale="log")
    >>> panel.lines[0].variable
    'loss'
    """

    lines: tuple[Line, ...]
    ylabel: str = ""
    yscale: Literal["linear", "log", "symlog"] = "linear"
    xscale: Literal["linear", "log"] = "linear"
    references: tuple[Reference, ...] = ()
    xlabel: str = ""

    def __post_init__(self) -> None:
        sloping = any(reference.slope for reference in self.references)
        if sloping and not self.xscale == self.yscale == "log":
            raise ValueError("a reference with a slope needs two logarithmic axes")


@dataclass(frozen=True)
class Figure:
    """One panel at the width of a column, or two at the width of a page, lettered (a) and (b).

    Attributes:
        name: the stem of its files.
        panels: one or two. Two that differ only in how x runs share the y axis and the legend;
            two of which one's legend says all that the other's does share that.
        caption: for whoever prints the figure; kept inside the files.

    >>> import gradflow as gf
    >>> panel = gf.plotting.Panel((gf.plotting.Line("loss"),), yscale="log")
    >>> figure = gf.plotting.Figure.both_time_scales("my-loss", panel, "The loss along the run.")
    >>> [each.xscale for each in figure.panels]
    ['linear', 'log']
    """

    name: str
    panels: tuple[Panel, ...]
    caption: str = ""

    def __post_init__(self) -> None:
        if len(self.panels) not in (1, 2):
            raise ValueError(f"{self.name!r} has {len(self.panels)} panels; it may have 1 or 2")

    @classmethod
    def both_time_scales(cls, name: str, panel: Panel, caption: str = "") -> Figure:
        """`panel` against linear time (a) and against logarithmic time (b)."""
        return cls(name, (replace(panel, xscale="linear"), replace(panel, xscale="log")), caption)


def _energy_residual(trajectory: Trajectory) -> Series:
    return trajectory.times("energy_residual"), np.abs(trajectory["energy_residual"])


LOSS = Figure.both_time_scales(
    "loss",
    Panel((Line("loss"), Line("grad_norm")), ylabel="loss, gradient norm", yscale="log"),
    "Loss and gradient norm along the run, against linear (a) and logarithmic (b) time.",
)
ENERGY = Figure.both_time_scales(
    "energy",
    Panel((Line(_energy_residual),), ylabel="residual of the energy identity", yscale="log"),
    "The loss lost since the start less the integral of the squared gradient norm, absolute.",
)
