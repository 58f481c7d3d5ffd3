"""Figures of a comparison: descents at several learning rates beside the flow.

In all of them a rate has its colour, from light for the largest to dark for the smallest, and
the flow, to which they tend, is black. What a descent shows is drawn at its own times, where it
was compared, and not where it is on its way to infinity: that would leave no room for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from ..analysis import fitted_order
from ..plotting import Figure, Line, Panel, Reference
from ..plotting.figures import Series
from ..trajectory import Trajectory
from .record import FITTED

_RATE = "learning_rate"
# How many times the flow's largest value, or the distance that the flow has travelled, a descent
# may reach and still be drawn.
_BEYOND = 10.0
# By what factor the limit 2/eta may miss the sharpness that is drawn and still be.
_NEAR = 1.5
# Values that are this many times apart ask for a logarithmic axis.
_WIDE = 20.0
# Of the colours for ordered families, the place of the smallest rate: the flow is black.
_DARKEST = 0.9


def figures(comparison: Trajectory, conserved: Sequence[str] = ()) -> tuple[Figure, ...]:
    """The figures that a comparison has the variables for, to be drawn from it.

    Args:
        comparison: with the axis ``learning_rate``, the drifts, and for every observable its
            values under the descents and ``<name>_difference`` from the flow. For every time
            axis along which the descents have times of their own, ``matched_<axis>``.
        conserved: names of relative drifts of quantities that the flow conserves. The first two
            that were compared are drawn, each by the largest over any further axes.

    Returns:
        In this order, as far as there is something to draw: ``drift``, ``drift-order``,
        ``edge-of-stability``, ``descent-loss`` and ``conserved``.
    """
    made = (
        _drift(comparison),
        _drift_order(comparison),
        _edge_of_stability(comparison),
        _loss(comparison),
        _conserved(comparison, conserved),
    )
    return tuple(figure for figure in made if figure is not None)


def _drift(comparison: Trajectory) -> Figure | None:
    panels = tuple(
        Panel(
            _lines(comparison, _descents(comparison, name, _BEYOND)),
            f"relative drift, {what}",
            "log",
            "log",
        )
        for name, what in (
            ("relative_drift", "flow"),
            ("modified_relative_drift", "modified flow"),
        )
        if name in comparison
    )
    caption = (
        "Distance of every descent from the flow (a) and from its own modified flow (b) at "
        "matched times, relative to the distance that the flow has travelled by then."
    )
    return Figure("drift", panels, caption) if panels else None


def _drift_order(comparison: Trajectory) -> Figure | None:
    if "drift" not in comparison or not len(comparison.time):
        return None
    # The last time at which any descent is near: those that are far by then have diverged.
    near = comparison["relative_drift"] <= _BEYOND
    row = int(np.flatnonzero(near.any(axis=1)).max(initial=0))
    points, guides = [], []
    for prefix, what, slope in (("", "flow", 1), ("modified_", "modified flow", 2)):
        if f"{prefix}drift" not in comparison:
            continue
        drift = comparison[f"{prefix}drift"][row]
        shown = near[row] & (drift > 0) & np.isfinite(drift)
        if np.count_nonzero(shown) < 2:
            continue
        rates, drift = comparison.coords[_RATE][shown], drift[shown]
        kept = np.isin(rates, comparison.attrs.get(FITTED, rates))
        label = f"{what}{_order_told(rates[kept], drift[kept])}"
        colour, dash = ("blue", "dashed") if slope == 1 else ("vermillion", "dotted")
        points.append(Line(_always((rates, drift)), label=label, colour=colour, points=True))
        # Through the middle of them, so that one that is off does not pull it away.
        middle = float(np.median(drift / rates**slope))
        guides.append(Reference(middle, label=f"slope {slope}", slope=slope, dash=dash))
    if not points:
        return None
    panel = Panel(
        tuple(points),
        f"drift of descent at $t = {_number(float(comparison.time[row]))}$",
        "log",
        "log",
        tuple(guides),
        r"learning rate $\eta$",
    )
    caption = (
        "Distance of the descents from the flow and from their modified flows against the "
        "learning rate, and the fitted orders with their 95 % confidence intervals."
    )
    return Figure("drift-order", (panel,), caption)


def _edge_of_stability(comparison: Trajectory) -> Figure | None:
    if "sharpness_difference" not in comparison or comparison["sharpness"].ndim > 2:
        return None
    flow = _flow(comparison, "sharpness")
    descents = _descents(comparison, "sharpness", _BEYOND * _largest(flow))
    rates = comparison.coords[_RATE][_order(comparison)]
    values = _finite([flow, *descents])
    limits = tuple(
        Reference(
            2.0 / rate,
            label=f"$2/\\eta = {_number(2.0 / rate)}$",
            colour=colour,
            dash="dotted",
        )
        for rate, colour in zip(rates, _colours(len(rates)), strict=True)
        if len(values) and values.min() / _NEAR <= 2.0 / rate <= _NEAR * values.max()
    )
    panel = Panel(
        _lines(comparison, descents, flow),
        r"sharpness $\lambda_{\max}(\nabla^2 L)$",
        _scale(values),
        references=limits,
    )
    caption = (
        "The largest eigenvalue of the Hessian along the flow and under the descents, against "
        "linear (a) and logarithmic (b) time. The dotted lines are the limits of stability "
        f"2/eta within a factor {_NEAR:g} of it, in the colours of their rates."
    )
    return Figure.both_time_scales("edge-of-stability", panel, caption)


def _loss(comparison: Trajectory) -> Figure | None:
    if "loss_difference" not in comparison:
        return None
    flow = _flow(comparison, "loss")
    descents = _descents(comparison, "loss", _BEYOND * _largest(flow))
    panel = Panel(
        _lines(comparison, descents, flow),
        comparison.variables["loss"].label or "loss",
        _scale(_finite([flow, *descents])),
    )
    caption = (
        "The loss along the flow and under the descents at matched times, against linear (a) "
        "and logarithmic (b) time."
    )
    return Figure.both_time_scales("descent-loss", panel, caption)


def _conserved(comparison: Trajectory, names: Sequence[str]) -> Figure | None:
    present = [name for name in names if f"{name}_difference" in comparison]
    panels = tuple(
        Panel(
            _lines(comparison, _descents(comparison, name, _BEYOND), _flow(comparison, name)),
            comparison.variables[name].label or name,
            "log",
            "log",
        )
        for name in present[:2]
    )
    caption = "What the flow conserves and the descents do not, relative to where it started."
    return Figure("conserved", panels, caption) if panels else None


def _order(comparison: Trajectory) -> np.ndarray:
    """Where the rates are on their axis, the largest first."""
    return np.argsort(-comparison.coords[_RATE])


def _descents(comparison: Trajectory, name: str, bound: float) -> list[Series]:
    """Times and values under every descent, the largest rate first; NaN beyond `bound`."""
    times, values = _compared(comparison, name), _joined(comparison[name])
    values = np.where(np.abs(values) <= bound, values, np.nan)
    return [(times[:, i], values[:, i]) for i in _order(comparison)]


def _flow(comparison: Trajectory, name: str) -> Series:
    """Times and values along the flow, from the comparison with the rate that went furthest.

    NaN where a descent is so far away that its difference does not tell three digits of it.
    """
    difference = comparison[f"{name}_difference"]
    with np.errstate(invalid="ignore"):  # infinity less infinity
        values = comparison[name] - difference
    told = np.abs(difference) * np.finfo(difference.dtype).eps <= 1e-3 * np.abs(values)
    values = _joined(np.where(told, values, np.nan))
    order = _order(comparison)[::-1]
    best = order[np.argmax(np.isfinite(values[:, order]).sum(axis=0))]
    return _compared(comparison, name)[:, best], values[:, best]


def _compared(comparison: Trajectory, name: str) -> np.ndarray:
    """The times at which flow and descents were compared, shape ``(n, rates)``."""
    axis = comparison.variables[name].dims[0]
    if f"matched_{axis}" in comparison:
        return comparison[f"matched_{axis}"]
    times = comparison.times(name)
    return np.broadcast_to(times[:, None], (len(times), len(comparison.coords[_RATE])))


def _joined(values: np.ndarray) -> np.ndarray:
    """The largest over the axes after those of time and rate, shape ``(n, rates)``."""
    return values.max(axis=tuple(range(2, values.ndim)))


def _lines(
    comparison: Trajectory, descents: Sequence[Series], flow: Series | None = None
) -> tuple[Line, ...]:
    """A line for every descent, the largest rate first, and above them the flow's."""
    rates = comparison.coords[_RATE][_order(comparison)]
    lines = tuple(
        Line(_always(series), label=rf"$\eta = {_number(rate)}$", colour=colour)
        for series, rate, colour in zip(descents, rates, _colours(len(rates)), strict=True)
    )
    if flow is None:
        return lines
    return (*lines, Line(_always(flow), label="flow", colour="black", dash="long"))


def _colours(count: int) -> list[float]:
    return [float(place) for place in np.linspace(0.0, _DARKEST, count)]


def _always(series: Series) -> Callable[[Trajectory], Series]:
    return lambda _: series


def _largest(series: Series) -> float:
    """The largest absolute value; infinite if nothing else is known."""
    return float(np.abs(_finite([series])).max(initial=0.0)) or np.inf


def _finite(series: Sequence[Series]) -> np.ndarray:
    values = np.concatenate([values for _, values in series])
    return values[np.isfinite(values)]


def _scale(values: np.ndarray) -> Literal["linear", "log"]:
    shown = values[values > 0]
    wide = len(shown) and shown.max() > _WIDE * shown.min() and not (values < 0).any()
    return "log" if wide else "linear"


def _number(value: float) -> str:
    """Five digits for a formula, e.g. ``0.005`` or ``6.25 \\times 10^{-5}``."""
    digits, _, power = f"{value:.5g}".partition("e")
    return rf"{digits} \times 10^{{{int(power)}}}" if power else digits


def _order_told(rates: np.ndarray, drift: np.ndarray) -> str:
    """The fitted order with half its interval, to as many digits as that has to say.

    Empty where too few rates are left to fit one.
    """
    order = fitted_order(rates, drift)
    half = (order.high - order.low) / 2
    if not np.isfinite(order.value):
        return ""
    if not np.isfinite(half):
        return f": order {order.value:.2f}"
    places = int(np.clip(np.ceil(-np.log10(half)), 2, 3)) if half else 3
    return rf": order ${order.value:.{places}f} \pm {half:.{places}f}$"
