"""The exponents of a study, and what theory says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..analysis import Order, ensemble_order, fitted_order
from ..trajectory import Trajectory
from .record import LIMIT, ORDER, SYSTEM, VALUE

# An exponent so near to the predicted one agrees, whatever its interval: over a factor of ten in
# size that is 12 %, less than what a logarithm or the next order makes.
_NEAR = 0.05
_VAGUE = 0.5  # an interval that reaches farther to either side tells no order from another


class Fit(NamedTuple):
    """How a measure grows with a size.

    Attributes:
        measure, against, system: of what, with which size, of which system.
        exponent: of the power law fitted over all sizes, see `gradflow.analysis.ensemble_order`.
        low, high: its 95 % confidence interval.
        prefactor: of the power law.
        at_largest: the exponent between the two largest sizes alone: whether it has settled.
        source: the theorem that names an order.
        order: the exponent that it names; NaN if none.
        order_agrees: whether the interval, or what is within 0.05 of it, has that exponent;
            ``None`` where none is named or the interval is wider than 0.5 to either side.
        limit: the exponent of the known limit, fitted over the same sizes; NaN if none is known.
        limit_agrees: likewise.
        over_limit: the median over seeds of measure over limit, at the largest size.
        left_out: how many runs do not have a positive number to fit.
    """

    measure: str
    against: str
    system: str
    exponent: float
    low: float
    high: float
    prefactor: float
    at_largest: float
    source: str
    order: float
    order_agrees: bool | None
    limit: float
    limit_agrees: bool | None
    over_limit: float
    left_out: int

    def cells(self) -> tuple[str, ...]:
        """Its row of a table, under `HEADING`."""
        interval = f"{self.exponent:.3f}"
        if np.isfinite(self.low):
            interval += f" ({self.low:.3f} to {self.high:.3f})"
        if self.left_out:
            interval += f", {self.left_out} left out"
        order = _predicted(self.order, self.order_agrees, self.source)
        limit = _predicted(self.limit, self.limit_agrees, f"{self.over_limit:.3g} of it")
        largest = f"{self.at_largest:.3f}"
        return self.measure, self.against, self.system, interval, largest, order, limit


HEADING = ("measure", "against", "system", "exponent, 95 % interval", "largest", "order", "limit")


def fits(record: Trajectory) -> tuple[Fit, ...]:
    """All power laws of a study, by measure, size and system; those of nothing are left out.

    Args:
        record: that of a `Study`.

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
    >>> [(fit.measure, round(fit.exponent, 6)) for fit in gf.scaling.fits(study.record)]
    [('start', 2.0)]
    """
    return tuple(_fits(record))


def varied(record: Trajectory) -> list[str]:
    """The sizes that a study varied."""
    first = {variable.dims[0] for variable in record.variables.values()}
    return [name for name in record.coords if name in first]


def _fits(record: Trajectory) -> Iterator[Fit]:
    for measure, told in record.attrs["measures"].items():
        for against in varied(record):
            sizes = record.coords[against].astype(float)
            for system in record.coords[SYSTEM]:
                values = record.sel(VALUE.format(measure, against), system=system)
                usable = (values > 0) & np.isfinite(values)
                there = usable.any(axis=1)
                fit = ensemble_order(sizes, values)
                if not np.isfinite(fit.value):
                    continue
                last = np.flatnonzero(there)[-2:]
                end = last[-1]
                order = record[ORDER.format(measure, against)]
                limit = record[LIMIT.format(measure, against)]
                predicted = [fitted_order(sizes[there], x[there]).value for x in (order, limit)]
                # A run at a size where the system was not run at all is not one left out.
                run = ~np.isnan(values).all(axis=1)
                yield Fit(
                    measure,
                    against,
                    str(system),
                    *fit,
                    at_largest=ensemble_order(sizes[last], values[last]).value,
                    source=told["source"],
                    order=predicted[0],
                    order_agrees=_agrees(fit, predicted[0]),
                    limit=predicted[1],
                    limit_agrees=_agrees(fit, predicted[1]),
                    over_limit=float(np.median(values[end][usable[end]] / limit[end])),
                    left_out=int(np.count_nonzero(~usable[run])),
                )


def _agrees(fit: Order, predicted: float) -> bool | None:
    half = (fit.high - fit.low) / 2 if np.isfinite(fit.low) else 0.0
    if not np.isfinite(predicted) or half > _VAGUE:
        return None
    return bool(abs(predicted - fit.value) <= half + _NEAR)


def tabulated(found: Sequence[Fit]) -> list[str]:
    """The fits as an aligned table, a line each under a heading; empty without any.

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
    >>> for line in gf.scaling.tabulated(study.fits):
    ...     print(line)
    measure  against  system  exponent, 95 % interval  largest  order  limit
    start    width            2.000 (2.000 to 2.000)   2.000    -      -
    """
    if not found:
        return []
    rows = [HEADING, *(fit.cells() for fit in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _predicted(exponent: float, agrees: bool | None, note: str) -> str:
    if not np.isfinite(exponent):
        return "-"
    verdict = {True: "yes", False: "NO", None: "open"}[agrees]
    return f"{rounded(exponent)} {verdict} ({note})"


def rounded(exponent: float) -> str:
    """To three places at most, and 0 without a sign."""
    return f"{round(exponent, 3) + 0.0:g}"
