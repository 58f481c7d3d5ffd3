"""A series of numbers with the errors they are known to, and what can be said of it.

Time is measured by its logarithm: a flow does as much in the decade before T as in the one after.
A value between samples is that of the cubic in log t through the four nearest; of t = 0, which has
no logarithm, and the sample that follows, the line in t. Signs between samples are those of the
line in log t.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .order import Order, fitted_order


class Series(NamedTuple):
    """Samples of a quantity; those that are not finite, or not to a finite error, are left out.

    Attributes:
        times: ascending, shape ``(n,)``.
        values: shape ``(n,)``.
        errors: the absolute error of each value; zeros where nothing is known of it.
        certified: whether the errors are known.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> times = np.geomspace(1.0, 100.0, 9)
    >>> series = gf.analysis.Series.of(times, np.log10(times) - 0.5, errors=np.full(9, 0.01))
    >>> value, error = series.at(10.0)
    >>> round(value, 6), round(series.share_positive(), 6), series.is_positive()
    (0.5, 0.75, False)
    """

    times: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    certified: bool

    @classmethod
    def of(cls, times: np.ndarray, values: np.ndarray, errors: np.ndarray | None) -> Series:
        """The series of samples; `errors` are ``None`` where nothing is known of them."""
        known = np.zeros(len(times)) if errors is None else np.asarray(errors, float)
        values = np.asarray(values, float)
        keep = np.isfinite(values) & np.isfinite(known)
        return cls(np.asarray(times)[keep], values[keep], known[keep], errors is not None)

    def at(self, time: float) -> tuple[float, float]:
        """Value and error at a time between the samples; interpolation has its share in the error.

        That share is estimated by what the farthest of the samples used changes.

        Raises:
            ValueError: it does not lie between the first and the last.
        """
        if not len(self.times) or not self.times[0] <= time <= self.times[-1]:
            raise ValueError(f"no samples on both sides of t = {time:g}")
        after = int(np.searchsorted(self.times, time))
        if self.times[after] == time:
            return float(self.values[after]), float(self.errors[after])
        if self.times[after - 1] <= 0:
            x, at, used = self.times, time, np.array([after - 1, after])
        else:
            positive = np.flatnonzero(self.times > 0)
            x, at = np.log(np.where(self.times > 0, self.times, 1.0)), np.log(time)
            nearest = positive[np.argsort(np.abs(x[positive] - at), kind="stable")]
            between = (nearest == after - 1) | (nearest == after)
            used = np.concatenate([nearest[between], nearest[~between]])[:4]
        weights = _interpolation(x[used], at)
        value = weights @ self.values[used]
        fewer = (
            _interpolation(x[used[:-1]], at) @ self.values[used[:-1]] if len(used) > 2 else value
        )
        error = np.abs(weights) @ self.errors[used] + np.abs(value - fewer)
        return float(value), float(error)

    def within(self, start: float, end: float) -> Series:
        """The samples from `start` to `end`, with interpolated ones at both.

        Times before the first sample at which t > 0, or after the last, are cut off; the result
        is empty where nothing is left.
        """
        positive = self.times[self.times > 0]
        if len(positive):
            start, end = max(start, float(positive[0])), min(end, float(positive[-1]))
        if not len(positive) or start > end:
            return self._only(np.zeros(len(self.times), bool))
        edges = np.array([start, end]) if start < end else np.array([start])
        rows = np.array([self.at(edge) for edge in edges]).T
        inside = self._only((self.times > start) & (self.times < end))
        parts = zip((edges, *rows), inside[:3], strict=True)
        times, values, errors = (np.concatenate([x[:1], middle, x[1:]]) for x, middle in parts)
        return Series(times, values, errors, self.certified)

    def _only(self, keep: np.ndarray) -> Series:
        return Series(self.times[keep], self.values[keep], self.errors[keep], self.certified)

    def share_positive(self) -> float:
        """The share of its log time in which it is positive; NaN with fewer than two samples."""
        keep = self.times > 0
        x, y = np.log(self.times[keep]), self.values[keep]
        if len(x) < 2:
            return np.nan
        left, right = y[:-1], y[1:]
        crossing = (left > 0) != (right > 0)
        span = np.where(crossing, np.abs(right - left), 1.0)
        part = np.where(crossing, np.maximum(left, right) / span, left > 0)
        # Both sums in one way, so that 1 is exactly 1.
        return float(part @ np.diff(x) / (np.ones(len(part)) @ np.diff(x)))

    def is_positive(self) -> bool | None:
        """Whether all samples are positive.

        Returns:
            True if each is by more than its error; False if one is not by more than its error;
            ``None`` if errors leave it open.
        """
        if np.all(self.values > self.errors):
            return True
        if np.any((self.values < -self.errors) | ((self.values <= 0) & (self.errors == 0))):
            return False
        return None


def derived(function: Callable[..., np.ndarray], *inputs: Series) -> Series:
    """A function of several series on the same times, with its error to first order.

    The error is the sum over the inputs of what each one's error changes alone.

    Args:
        function: of the values of all inputs, arrays of one shape, entry by entry.
        inputs: one or more; times that not all of them have are left out.

    Returns:
        The series of its values, certified if all inputs are.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> times, errors = np.array([1.0, 2.0]), np.array([0.1, 0.2])
    >>> one = gf.analysis.Series.of(times, np.array([3.0, 5.0]), errors)
    >>> other = gf.analysis.Series.of(times, np.array([1.0, 2.0]), errors)
    >>> difference = gf.analysis.derived(np.subtract, one, other)
    >>> difference.values, difference.errors.round(6)
    (array([2., 3.]), array([0.2, 0.4]))
    """
    times = inputs[0].times
    if not all(np.array_equal(times, other.times) for other in inputs[1:]):
        for other in inputs[1:]:
            times = np.intersect1d(times, other.times)
        inputs = tuple(s._only(np.isin(s.times, times)) for s in inputs)
    values, errors = [s.values for s in inputs], [s.errors for s in inputs]
    with np.errstate(all="ignore"):  # what is not finite is left out
        found = function(*values)
        total = np.zeros_like(found)
        for i, error in enumerate(errors):
            moved = [*values[:i], values[i] + error, *values[i + 1 :]]
            total = total + np.abs(function(*moved) - found)
    known = all(s.certified for s in inputs)
    return Series.of(times, found, total if known else None)


def _interpolation(x: np.ndarray, at: float) -> np.ndarray:
    """The weights of values at the nodes `x` in the polynomial through them, at a point."""
    others = ~np.eye(len(x), dtype=bool)
    return np.array(
        [np.prod((at - x[o]) / (node - x[o])) for node, o in zip(x, others, strict=True)]
    )


def log_slope(series: Series) -> tuple[Order, float]:
    """The slope of log(value) against log(time) of a positive series, by least squares.

    Args:
        series: two samples or more, all at t > 0.

    Returns:
        The slope, with the interval of `fitted_order`, which says how straight the series is; and
        the largest error of the slope that the errors of the values make, to first order.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> times = np.geomspace(1.0, 100.0, 9)
    >>> loss = gf.analysis.Series.of(times, 3 / times, errors=None)
    >>> order, error = gf.analysis.log_slope(loss)
    >>> round(order.value, 6), float(error)
    (-1.0, 0.0)
    """
    x = np.log(series.times)
    weights = _slope_weights(x)
    error = np.abs(weights) @ (series.errors / series.values)
    return fitted_order(series.times, series.values), float(error)


def slope(series: Series) -> tuple[float, float]:
    """The slope of the values against time, by least squares.

    Args:
        series: two samples or more.

    Returns:
        The slope, in units of the values over time; and the largest error of it that the errors of
        the values make.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> times = np.array([0.0, 1.0, 2.0])
    >>> value, error = gf.analysis.slope(gf.analysis.Series.of(times, 2 * times + 1, errors=None))
    >>> value, error
    (2.0, 0.0)
    """
    weights = _slope_weights(series.times)
    return float(weights @ series.values), float(np.abs(weights) @ series.errors)


def _slope_weights(x: np.ndarray) -> np.ndarray:
    spread = x - x.mean()
    return spread / (spread @ spread)
