"""What many seeds say together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LOW, HIGH = 0.1, 0.9  # the quantiles between which a band lies


class Band(NamedTuple):
    """The median over seeds, and the quantiles between which eight seeds in ten lie.

    Attributes:
        low: the quantile 0.1, of the shape of one seed's values.
        median: the median, likewise.
        high: the quantile 0.9, likewise.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> gf.analysis.Band(np.array([1.0]), median=np.array([2.0]), high=np.array([4.0])).median
    array([2.])
    """

    low: np.ndarray
    median: np.ndarray
    high: np.ndarray


def band(values: np.ndarray) -> Band:
    """The median and the band of values over seeds.

    Args:
        values: seeds along the last axis, shape ``(..., seeds)``; those that are not a number
            are left out.

    Returns:
        Of each the shape without the last axis, NaN where there is no number at all.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> loss = np.stack([np.arange(11.0), 2 * np.arange(11.0)])  # two times, eleven seeds
    >>> low, median, high = gf.analysis.band(loss)
    >>> low, median, high
    (array([1., 2.]), array([ 5., 10.]), array([ 9., 18.]))
    """
    values = np.asarray(values, float)
    found = np.full((3, *values.shape[:-1]), np.nan)
    some = np.any(~np.isnan(values), axis=-1)
    found[:, some] = np.nanquantile(values[some], [LOW, 0.5, HIGH], axis=-1)
    return Band(*found)


def proportion_interval(held: int, of: int) -> tuple[float, float]:
    """The 95 % confidence interval of a probability, from how often something held.

    Clopper and Pearson's (1934), exact for the binomial distribution: it covers the probability in
    at least 95 % of all draws, whatever the probability and however few.

    Args:
        held: how often it held.
        of: how often it was looked at; with 0 the interval is all from 0 to 1.

    Returns:
        The lower and the upper end.

    >>> import gradflow as gf
    >>> low, high = gf.analysis.proportion_interval(0, of=10)
    >>> low, round(high, 4)  # 1 - 0.025^(1/10)
    (0.0, 0.3085)
    """
    from scipy.special import betaincinv  # a sixth of the time that scipy.stats takes to import

    low = betaincinv(held, of - held + 1, 0.025) if held else 0.0
    high = betaincinv(held + 1, of - held, 0.975) if held < of else 1.0
    return float(low), float(high)
