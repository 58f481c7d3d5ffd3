"""What the orders of the paper are about, measured of one run.

T1 is of the order 1/(s1^2 m m_1) (Theorem 3.1), and the inverse of the loss grows at a rate of the
order s1^2 m m_1 (Theorem F.8); both constants are taken to depend on neither L nor n. The
coefficients C_ij of Theorem 3.3 are held against the limit of infinite width, which has them with
their constants (see `limit`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...analysis import Series, derived, slope
from ..checking import UnansweredError
from ..evidence import Evidence, Moment
from ..measure import Measure
from .claims import TRAINED, late_inverse_loss, trained_coefficients
from .data import SPECIAL, random_words
from .limit import Limit


@dataclass(frozen=True)
class Sizes:
    """The sizes of a problem.

    Attributes:
        samples: n.
        length: L.
        width: m.
        neurons: m_1.
        s0: standard deviation of W_V, W_K and W_Q.
        s1: standard deviation of W.
    """

    samples: int
    length: int
    width: int
    neurons: int
    s0: float
    s1: float

    @cached_property
    def limit(self) -> Limit:
        """Of infinite width."""
        return Limit(self.samples, self.length)

    @property
    def loss_rate(self) -> float:
        """k gamma^2 of the limit."""
        k = (self.s0**2 + self.s1**2) * self.width * self.neurons
        return k * self.limit.squared_margin

    def score_change(self, time: float) -> float:
        """What C is multiplied by in the limit, at a late time; NaN at an early one."""
        late = self.loss_rate * time
        if late <= 1:
            return math.nan
        logarithm = math.log(late)
        return self.initial_score * logarithm**2 / (self.loss_rate * self.length)

    @property
    def initial_score(self) -> float:
        """The standard deviation of an entry of W_K^T W_Q at the start."""
        return self.s0**2 * math.sqrt(self.width)

    def limits(self, time: float) -> dict[str, float]:
        """What the measures of a run to `time` tend to, by name."""
        change = self.score_change(time)
        words = SPECIAL + random_words(self.samples, self.length)
        trained = [self.limit.special[key - 1, query - 1] for key, query in TRAINED]
        return {
            "loss_rate": self.loss_rate,
            "attention_change": change * float(_root_mean_square(*trained)),
            "random_score_change": change * self.limit.largest_random,
            "relative_score_change": change * self.limit.norm / (words * self.initial_score),
        }


def measured(e: Evidence, sizes: Sizes, unique_words: bool) -> tuple[Measure, ...]:
    """All measures of a run; their limits where no random word occurs twice."""
    orders = {"T1": ("Thm 3.1", 1 / e.rate), "loss_rate": ("Thm F.8", e.rate)}
    limits = sizes.limits(e.end) if unique_words else {}
    found = []
    for name, (label, read) in _MEASURES.items():
        value, note = None, ""
        try:
            value = float(read(e))
        except UnansweredError as reason:
            note = str(reason)
        source, order = orders.get(name, ("", None))
        found.append(Measure(name, label, value, source, order, limits.get(name), note))
    return tuple(found)


def _root_mean_square(*values: np.ndarray | float) -> np.ndarray:
    return np.sqrt(np.mean(np.square(np.array(values)), axis=0))


def _attention_change(e: Evidence) -> Series:
    return derived(_root_mean_square, *trained_coefficients(e))


def _relative_score_change(e: Evidence) -> Series:
    return e.series("correlation_change", matrix="scores")


def _random_score_change(e: Evidence) -> Series:
    return e.series("random_score_change")


def _at(series: Callable[[Evidence], Series], when: Moment) -> Callable[[Evidence], float]:
    """What reads a series off at a moment."""

    def read(e: Evidence) -> float:
        moment = e.moment(when)
        found = series(e).within(moment, moment)
        if not len(found.times):
            raise UnansweredError("nothing was recorded at these times")
        return float(found.values[-1])

    return read


# By name: what a figure writes on the axis, and what reads the number off a run.
_MEASURES: dict[str, tuple[str, Callable[[Evidence], float]]] = {
    "T1": ("$T_1$", lambda e: e.moment("T1")),
    "loss_rate": ("late slope of 1/loss", lambda e: slope(late_inverse_loss(e))[0]),
    "attention_change": (
        r"rms of $C_{12}, C_{21}, C_{31}, C_{32}$",
        _at(_attention_change, "end"),
    ),
    "random_score_change": ("largest $|C_{ij}|$, random word", _at(_random_score_change, "end")),
    "relative_score_change": (
        "relative score change",
        _at(_relative_score_change, "end"),
    ),
    "relative_score_change_at_T1": (
        "relative score change at $T_1$",
        _at(_relative_score_change, "T1"),
    ),
}
