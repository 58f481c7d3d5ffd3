"""Power laws, of a drift in the learning rate or of a measure in a size, and where they end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Order(NamedTuple):
    """A power law y = prefactor * x^value.

    Attributes:
        value: the exponent.
        low, high: its 95 % confidence interval; NaN where there is none.
        prefactor: in the units of y over those of x^value.

    >>> import gradflow as gf
    >>> gf.analysis.Order(2.0, low=1.9, high=2.1, prefactor=3.0).value
    2.0
    """

    value: float
    low: float
    high: float
    prefactor: float


def fitted_order(rates: np.ndarray, drift: np.ndarray) -> Order:
    """The order of the drift in the learning rate: least squares of its logarithm on the rate's.

    The interval is Student's for normal errors of equal variance about the line. It says how
    well the drifts lie on one power law, not whether the rates are small enough for the order
    to have settled.

    Args:
        rates: the learning rates, shape ``(r,)``.
        drift: the drift under each; pairs that are not positive and finite are left out.

    Returns:
        The order; without an interval (NaN) from two rates, and NaN altogether from fewer.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> rates = np.array([0.1, 0.2, 0.4])
    >>> order = gf.analysis.fitted_order(rates, drift=3 * rates**2)
    >>> round(order.value, 6), round(order.prefactor, 6)
    (2.0, 3.0)
    """
    from scipy.special import stdtrit  # a sixth of the time that scipy.stats takes to import

    rates, drift = np.asarray(rates, float), np.asarray(drift, float)
    keep = (rates > 0) & (drift > 0) & np.isfinite(rates) & np.isfinite(drift)
    if len(np.unique(rates[keep])) < 2:
        return Order(np.nan, np.nan, np.nan, np.nan)
    x, y = np.log(rates[keep]), np.log(drift[keep])
    spread = x - x.mean()
    value = float(spread @ y / (spread @ spread))
    intercept = y.mean() - value * x.mean()
    freedom, half = len(x) - 2, np.nan
    if freedom:
        residual = y - intercept - value * x
        variance = residual @ residual / freedom / (spread @ spread)
        half = float(stdtrit(freedom, 0.975) * np.sqrt(variance))
    return Order(value, value - half, value + half, float(np.exp(intercept)))


def ensemble_order(sizes: np.ndarray, values: np.ndarray) -> Order:
    """The exponent of a power law that each member of an ensemble follows with its own scatter.

    Each member has its own fit by `fitted_order`; the exponent is their mean, which with all
    values there is the least squares slope of all of them together, and the interval is Student's
    of that mean. It takes the members as independent and nothing else: what a member keeps from
    size to size, such as its data or a departure from the power law, does not spoil it, as it
    would an interval from the residuals of all. By the same token it covers the slope over these
    sizes, also where that is not yet the slope beyond them.

    Args:
        sizes: shape ``(k,)``.
        values: shape ``(k, members)``; those that are not positive and finite are left out.

    Returns:
        The order, of a single member as `fitted_order` has it; NaN where no member has values at
        two sizes.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> sizes = np.array([8.0, 16.0, 32.0])
    >>> values = np.stack([sizes**0.9, sizes**1.1], axis=1)  # of two members
    >>> round(gf.analysis.ensemble_order(sizes, values).value, 6)
    1.0
    """
    from scipy.special import stdtrit

    sizes, values = np.asarray(sizes, float), np.asarray(values, float)
    found = [fitted_order(sizes, member) for member in values.T]
    found = [order for order in found if np.isfinite(order.value)]
    if len(found) < 2:
        return found[0] if found else Order(np.nan, np.nan, np.nan, np.nan)
    exponents = np.array([order.value for order in found])
    value = float(exponents.mean())
    half = stdtrit(len(found) - 1, 0.975) * exponents.std(ddof=1) / np.sqrt(len(found))
    rows, columns = np.nonzero((values > 0) & np.isfinite(values))
    level = np.mean(np.log(values[rows, columns]) - value * np.log(sizes[rows]))
    return Order(value, float(value - half), float(value + half), float(np.exp(level)))


def largest_rate(rates: np.ndarray, drift: np.ndarray, limit: float) -> float | None:
    """The largest learning rate whose drift stays within `limit`.

    Between the largest rate that was run and stayed within and the next, which did not, drift
    is taken as a power of the rate. Nothing is said beyond the largest rate that was run.

    Args:
        rates: the learning rates that were run, shape ``(r,)``, in any order.
        drift: the drift under each; NaN, as of a descent that diverged, is beyond every limit.
        limit: the drift that is allowed.

    Returns:
        The rate; ``None`` if no drift stays within `limit`.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> rates = np.array([0.1, 0.2])
    >>> round(gf.analysis.largest_rate(rates, drift=rates**2, limit=0.0225), 6)  # its square root
    0.15
    """
    order = np.argsort(rates)
    rates, drift = np.asarray(rates, float)[order], np.asarray(drift, float)[order]
    within = np.flatnonzero(drift <= limit)
    if not len(within):
        return None
    last = within[-1]
    # From no drift at all, or to one that is not known, there is no power law.
    if last == len(rates) - 1 or not drift[last] > 0 or not np.isfinite(drift[last + 1]):
        return float(rates[last])
    share = np.log(limit / drift[last]) / np.log(drift[last + 1] / drift[last])
    return float(rates[last] * (rates[last + 1] / rates[last]) ** share)


def crossings(times: np.ndarray, values: np.ndarray, level: float) -> np.ndarray:
    """Where a sampled series crosses a level, e.g. the sharpness 2/eta.

    Linear between samples; those that are not finite are skipped. A series that touches the
    level and turns back has not crossed it.

    Args:
        times: ascending, shape ``(n,)``.
        values: the series at these times, shape ``(n,)``.
        level: what it crosses.

    Returns:
        Rows ``(time, +1 or -1)``, ascending, shape ``(k, 2)``: +1 where the series rises.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> gf.analysis.crossings(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 0.0]), level=1.0)
    array([[ 0.5,  1. ],
           [ 1.5, -1. ]])
    """
    times, values = np.asarray(times, float), np.asarray(values, float)
    keep = np.isfinite(values)
    times, above = times[keep], values[keep] - level
    apart = np.flatnonzero(above)
    side = np.sign(above[apart])
    turns = np.flatnonzero(side[1:] != side[:-1])
    # Samples on the level lie between the two sides; the first of them is where it is reached.
    before = apart[turns]
    share = above[before] / (above[before] - above[before + 1])
    at = times[before] + share * (times[before + 1] - times[before])
    return np.stack([at, side[turns + 1]], axis=1)
