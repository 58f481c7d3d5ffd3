"""How a claim is held against what a run recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..analysis import Series, derived
from ..trajectory import Trajectory
from .claims import Claim

Reported = Literal["end", "worst", "largest", "smallest"]


class UnansweredError(Exception):
    """Why a run says nothing on a claim."""


@dataclass(frozen=True)
class Special:
    """A claim of a form of its own.

    Attributes:
        name, source, quantity: as `Claim` has them.
        measure: fills in the rest, from what is known of the run.

    >>> from gradflow.tasks.checking import Special
    >>> late = Special("it ends late", "Thm 1", "end", lambda e, claim: claim._replace(held=e > 9))
    >>> late(10.0).cells()[:3]
    ('it ends late', 'Thm 1', 'yes')
    """

    name: str
    source: str
    quantity: str
    measure: Callable[[Any, Claim], Claim]

    def __call__(self, evidence: Any) -> Claim:
        """The claim, checked."""
        claim = Claim(self.name, self.source, self.quantity)
        try:
            return self.measure(evidence, claim)
        except UnansweredError as reason:
            return claim._replace(note=str(reason))


def recorded(trajectory: Trajectory, name: str, **labels: Any) -> Series:
    """A recorded variable at the given labels, with its error if the run was certified.

    Raises:
        UnansweredError: it was not recorded.
    """
    if name not in trajectory:
        raise UnansweredError(f"{name} is not recorded")
    error = f"{name}_error"
    known = trajectory.sel(error, **labels) if error in trajectory else None
    return Series.of(trajectory.times(name), trajectory.sel(name, **labels), known)


def ascending(claim: Claim, times: np.ndarray) -> Claim:
    """The claim that one time comes after another; its value is the least ratio of neighbours.

    >>> import numpy as np
    >>> from gradflow.tasks import Claim
    >>> from gradflow.tasks.checking import ascending
    >>> claim = ascending(Claim("T1 < T2 < T3", "Thm 1", "ratio"), np.array([1.0, 2.0, 8.0]))
    >>> claim.held, claim.value
    (True, 2.0)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.min(times[1:] / times[:-1], initial=np.inf))
    return claim._replace(
        value=ratio if np.isfinite(ratio) else None,
        held=bool(np.all(np.diff(times) > 0)),
        interval=(float(times.min()), float(times.max())),
    )


def bounded(
    claim: Claim,
    series: Series,
    low: float = -np.inf,
    high: float = np.inf,
    report: Reported = "worst",
) -> Claim:
    """The claim that a series lies between two bounds; without any it is reported alone.

    Args:
        claim: what is filled in.
        series: the quantity, at the times that the claim speaks of.
        low: the lower bound; the quantity must be larger.
        high: the upper bound.
        report: which value is reported: at the end of these times, the largest or smallest, or
            the worst, which lies nearest to a bound or farthest beyond.

    Raises:
        UnansweredError: the series is empty.

    >>> import numpy as np
    >>> from gradflow.analysis import Series
    >>> from gradflow.tasks import Claim
    >>> from gradflow.tasks.checking import bounded
    >>> series = Series.of(np.array([1.0, 10.0, 100.0]), np.array([1.0, 3.0, 5.0]), None)
    >>> claim = bounded(Claim("x < 4", "Thm 1", "worst"), series, high=4.0)
    >>> claim.held, claim.value, claim.share
    (False, 5.0, 0.75)
    """
    if not len(series.times):
        raise UnansweredError("nothing was recorded at these times")
    at = {
        "end": -1,
        "largest": np.argmax(series.values),
        "smallest": np.argmin(series.values),
        "worst": np.argmin(np.minimum(series.values - low, high - series.values)),
    }[report]
    claim = claim._replace(
        value=float(series.values[at]),
        error=float(series.errors[at]) if series.certified else None,
        interval=(float(series.times[0]), float(series.times[-1])),
    )
    if np.isinf(low) and np.isinf(high):
        return claim._replace(note="no bound")
    margin = derived(lambda x: np.minimum(x - low, high - x), series)
    held = margin.is_positive()
    share = margin.share_positive() if len(margin.times) > 1 else None
    note = "within its error" if held is None else ""
    return claim._replace(held=held, share=share, note=note)
