"""Figures of a study: what was measured against each size, and what theory says.

Points are medians over seeds with the band between quantiles as a bar. Through the points of every
system goes its fitted power law; the order that the paper names is drawn through the last median
of the first system, for it has no constant, and the limit, which has one, as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..analysis import band
from ..plotting import Figure, Line, Panel
from ..plotting.figures import Colour, Dash, Series
from ..trajectory import Trajectory
from .fits import Fit, fits, rounded, varied
from .record import LIMIT, SYSTEM, VALUE

_STYLES: tuple[tuple[Colour, Dash], ...] = (
    ("blue", "solid"), ("vermillion", "dashed"), ("green", "dashdot"),
)  # fmt: skip
_FINE = 32  # points of a line, which is straight
# How far points of one system after the other stand aside, as a share of the axis: bars of two
# would hide each other.
_ASIDE = 0.012


def figures(record: Trajectory, axes: Mapping[str, str]) -> tuple[Figure, ...]:
    """Two measures against a size in each figure, named after the size and the first of them.

    Args:
        record: that of `scaling_study`.
        axes: what to write along the axis of each size, by its name: ``task.sizes``.

    >>> import gradflow as gf
    >>> import optax
    >>> class Bowl(gf.tasks.Task):
    ...     sizes = {"width": "width $m$"}
    ...     kind: str = "bowl"
    ...     width: int = 1
    ...     def build(self, key, data_key=None):
    ...         return gf.Problem(optax.l2_loss, float(self.width), 0.0)  # L = width^2 / 2
    ...     def measures(self, flow):
    ...         return (gf.tasks.Measure("start", "loss at t = 0", float(flow["loss"][0])),)
    >>> save = gf.Linear(count=5)
    >>> study = gf.scaling_study(Bowl(), {"width": [1, 2, 4]}, seeds=2, t1=2.0, save=save)
    >>> [figure.name for figure in gf.scaling.figures(study.record, Bowl.sizes)]
    ['scaling-width-start']
    """
    found = {(fit.measure, fit.against, fit.system): fit for fit in fits(record)}
    measures = list(record.attrs["measures"])
    pairs = [measures[i : i + 2] for i in range(0, len(measures), 2)]
    caption = (
        "Medians over seeds against one size of the problem, with 10 to 90 % of seeds as bars "
        "(those of different systems stand a little aside), and fitted power laws with the 95 % "
        "confidence intervals of their exponents."
    )
    return tuple(
        Figure(
            f"scaling-{against}-{pair[0].replace('_', '-')}",
            tuple(_panel(record, measure, against, axes[against], found) for measure in pair),
            caption,
        )
        for against in varied(record)
        for pair in pairs
    )


def _panel(
    record: Trajectory,
    measure: str,
    against: str,
    axis: str,
    found: dict[tuple[str, str, str], Fit],
) -> Panel:
    points, laws, predicted = [], [], []
    sizes = record.coords[against].astype(float)
    systems = record.coords[SYSTEM]
    for i, (system, (colour, dash)) in enumerate(zip(systems, _STYLES, strict=False)):
        fit = found.get((measure, against, str(system)))
        if fit is None:
            continue
        values = record.sel(VALUE.format(measure, against), system=system)
        there = sizes[np.isfinite(values).any(axis=1)]
        label = f"{system}: {_exponent(fit)}"
        aside = (sizes.max() / sizes.min()) ** (_ASIDE * (i - (len(systems) - 1) / 2))
        shown = sizes * aside, values
        points.append(Line(_always(shown), label=label, colour=colour, points=True))
        law = _power(there, fit.prefactor, fit.exponent)
        laws.append(Line(_always(law), colour=colour, dash=dash))
        if np.isfinite(fit.order) and not predicted:
            level = band(values).median[sizes == there[-1]] / there[-1] ** fit.order
            label = f"{fit.source}: ${rounded(fit.order)}$"
            order = _power(sizes, float(level[0]), fit.order)
            predicted.append(Line(_always(order), label=label, colour="black", dash="dotted"))
    limit = record[LIMIT.format(measure, against)]
    if np.isfinite(limit).any():
        label = "limit, in closed form"
        predicted.append(
            Line(_always((sizes, limit)), label=label, colour="black", dash="dashdotdot")
        )
    label = record.attrs["measures"][measure]["label"]
    return Panel((*points, *laws, *predicted), label, "log", "log", xlabel=axis)


def _power(sizes: np.ndarray, prefactor: float, exponent: float) -> Series:
    x = np.geomspace(sizes[0], sizes[-1], _FINE)
    return x, prefactor * x**exponent


def _exponent(fit: Fit) -> str:
    half = (fit.high - fit.low) / 2
    if not np.isfinite(half):
        return f"${fit.exponent:.2f}$"
    places = int(np.clip(np.ceil(-np.log10(half)), 2, 3)) if half else 3
    return rf"${fit.exponent:.{places}f} \pm {half:.{places}f}$"


def _always(series: Series) -> Callable[[Trajectory], Series]:
    return lambda _: series
