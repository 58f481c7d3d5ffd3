"""What a trajectory has to say on a claim, and how a claim is held against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ..analysis import Series, derived
from ..trajectory import Trajectory
from .checking import Reported, Special, UnansweredError, bounded, recorded
from .claims import Claim

Moment = Literal["T1", "T_half", "end"]
LATE = 10.0  # the late times are the last decade


@dataclass(frozen=True)
class Evidence:
    """A trajectory, as claims look at it.

    Attributes:
        trajectory: of the task.
        phases: as `Task.phases` has them, e.g. T1 and T_half.
        rate: by which a paper measures time, s1^2 m m_1 of the co-occurrence transformer.
    """

    trajectory: Trajectory
    phases: dict[str, float | None]
    rate: float = 1.0

    def series(self, name: str, **labels: Any) -> Series:
        """A recorded variable at the given labels, with its error if the run was certified.

        Raises:
            UnansweredError: it was not recorded.
        """
        return recorded(self.trajectory, name, **labels)

    def change(self, name: str, **labels: Any) -> Series:
        """A variable less its first value."""
        series = self.series(name, **labels)
        if not len(series.times) or series.times[0] > 0:
            raise UnansweredError(f"{name} is not recorded at t = 0")
        return series._replace(
            values=series.values - series.values[0], errors=series.errors + series.errors[0]
        )

    def moment(self, name: Moment) -> float:
        """When a phase, or the run, ends.

        Raises:
            UnansweredError: it was not reached.
        """
        time = self.end if name == "end" else self.phases[name]
        if time is None:
            raise UnansweredError(f"{name} is not reached by t = {self.end:.3g}")
        return time

    def phase(self, name: Moment, series: Series) -> tuple[float, float | None]:
        """When a phase ends, and the error of that if the run was certified.

        Args:
            name: of the moment.
            series: what crosses zero then.
        """
        time = self.moment(name)
        after = int(np.searchsorted(series.times, time))
        if not series.certified or not 0 < after < len(series.times):
            return time, None
        pair = slice(after - 1, after + 1)
        rise = abs(series.values[after] - series.values[after - 1])
        if rise == 0:
            return time, None
        # Its own error over its slope.
        step = series.times[after] - series.times[after - 1]
        return time, float(series.errors[pair].max() / rise * step)

    def late_start(self) -> float:
        """Where the late times begin: a decade before the end, and not before T1."""
        return max(self.end / LATE, self.moment("T1"))

    def late(self, series: Series) -> Series:
        """The late times of a series.

        Raises:
            UnansweredError: there are fewer than three.
        """
        late = series.within(self.late_start(), self.end)
        if len(late.times) < 3:
            raise UnansweredError("too few save times")
        return late

    def ordered(self) -> float:
        """The save time from which on the order of Lemma 4.3 can be told from none.

        Raises:
            UnansweredError: there is no such time.
        """
        t_half, error = self.phase("T_half", self.response_order())
        # At T_half itself a margin is zero.
        times = self.trajectory.times("response_rate")
        later = times[times > t_half + (error or 0.0)]
        if not len(later):
            raise UnansweredError("no save time after T_half")
        return float(later[0])

    def response_order(self) -> Series:
        """Positive where max(G1', G2') < -G3' < G1' + G2'."""
        return derived(
            lambda a, b, c: np.minimum(-c - np.maximum(a, b), a + b + c),
            *(self.series("response_rate", word=word) for word in (1, 2, 3)),
        )

    @cached_property
    def end(self) -> float:
        """The end of the run."""
        return self.trajectory.final_time


When = Literal["run", "T_half to T1", "T1 to end", "late", "T1", "end"]


@dataclass(frozen=True)
class Row:
    """A claim that a quantity lies between two bounds; without any it is reported alone.

    Attributes:
        name: what is claimed.
        source: the theorem or lemma.
        quantity: the value that is reported, in words.
        series: the quantity.
        when: of which times the claim speaks.
        low: the lower bound; the quantity must be larger.
        high: the upper bound.
        report: which value is reported: at the end of these times, the largest or smallest, or the
            worst, which lies nearest to a bound or farthest beyond.
        net: what is reported instead, by its change over these times.
    """

    name: str
    source: str
    quantity: str
    series: Callable[[Evidence], Series]
    when: When = "T1 to end"
    low: float = -np.inf
    high: float = np.inf
    report: Reported = "end"
    net: Callable[[Evidence], Series] | None = None

    def __call__(self, evidence: Evidence) -> Claim:
        """The claim, checked."""
        return Special(self.name, self.source, self.quantity, self._measure)(evidence)

    def _measure(self, evidence: Evidence, claim: Claim) -> Claim:
        interval = self._interval(evidence)
        series = self.series(evidence).within(*interval)
        claim = bounded(claim, series, self.low, self.high, self.report)
        if self.net is None:
            return claim
        moved = self.net(evidence).within(*interval)
        if not len(moved.times):
            raise UnansweredError("nothing was recorded at these times")
        change, error = moved.values[-1] - moved.values[0], moved.errors[0] + moved.errors[-1]
        return claim._replace(value=float(change), error=float(error) if series.certified else None)

    def _interval(self, evidence: Evidence) -> tuple[float, float]:
        match self.when:
            case "run":
                return 0.0, evidence.end
            case "late":
                return evidence.late_start(), evidence.end
            case "T1" | "end":
                moment = evidence.moment(self.when)
                return moment, moment
            case "T_half to T1":
                return evidence.ordered(), evidence.moment("T1")
            case "T1 to end":
                return evidence.moment("T1"), evidence.end
