"""What every built-in problem offers."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from jaxtyping import Array

from .._spec import Spec
from ..observables import Event, Observable
from ..plotting import ENERGY, LOSS, Figure
from ..problem import Problem
from ..trajectory import Trajectory
from .measure import Measure


class Claim(NamedTuple):
    """A statement of a paper, checked along one run.

    Attributes:
        name: what is claimed, in a few signs; unique among the claims of a task.
        source: the theorem or lemma.
        quantity: what `value` is.
        value: the number that was measured; ``None`` if there is none.
        error: its estimated absolute error, if the run was certified.
        held: whether the claim held at every save time of `interval`; ``None`` where it cannot be
            said, or where the claim is asymptotic and names no bound to check.
        share: the share of the interval's log time in which it held, the series taken as linear
            in log t between save times; ``None`` for a claim at one moment.
        interval: the times that the claim speaks of.
        note: why `held` or `value` is ``None``, or what else there is to know.
    """

    name: str
    source: str
    quantity: str
    value: float | None = None
    error: float | None = None
    held: bool | None = None
    share: float | None = None
    interval: tuple[float, float] | None = None
    note: str = ""


def tabulated(claims: Sequence[Claim]) -> list[str]:
    """The claims as an aligned table, a line each under a heading; empty without any."""
    if not claims:
        return []
    rows = [("claim", "source", "held", "share", "times", "measured")]
    for claim in claims:
        held = {True: "yes", False: "NO", None: "-"}[claim.held]
        share = "" if claim.share is None else f"{_percent(claim.share)} %"
        times = dict.fromkeys(f"{time:.3g}" for time in claim.interval or ())
        measured = claim.quantity
        if claim.value is not None:
            error = "" if claim.error is None else f" +- {claim.error:.1g}"
            measured += f" {claim.value:.4g}{error}"
        note = f" ({claim.note})" if claim.note else ""
        rows.append((claim.name, claim.source, held, share, " to ".join(times), measured + note))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _percent(share: float) -> str:
    """Rounded, and 0 and 100 only where it is all or nothing."""
    percent = round(100 * share)
    if percent in (0, 100) and share not in (0, 1):
        return "< 1" if share < 0.5 else "> 99"
    return str(percent)


class Task(Spec, abc.ABC):
    """A spec that builds a problem and knows what to make of its trajectories.

    Subclasses have a field ``kind``, a literal by which configuration files choose them.
    """

    title: ClassVar[str] = ""
    observables: ClassVar[tuple[Observable, ...]] = ()
    events: ClassVar[tuple[Event, ...]] = ()
    figures: ClassVar[tuple[Figure, ...]] = (LOSS, ENERGY)

    @abc.abstractmethod
    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of initial parameters from `key`, and of data from `data_key`.

        Without a `data_key` both are drawn from `key`. Either way the data of two problems are
        the same where the key that they are drawn from is, and likewise the parameters.
        """

    def phases(self, trajectory: Trajectory) -> dict[str, float | None]:
        """The times that separate the phases of training; ``None`` for one not reached."""
        del trajectory
        return {}

    def invariants(self, trajectory: Trajectory) -> dict[str, float]:
        """The worst relative drift of each quantity that the flow conserves."""
        del trajectory
        return {}

    def claims(self, trajectory: Trajectory) -> tuple[Claim, ...]:
        """What is claimed of this problem, each claim checked along the trajectory."""
        del trajectory
        return ()

    def measures(self, trajectory: Trajectory) -> tuple[Measure, ...]:
        """What is followed from size to size of the problem, as this run has it."""
        del trajectory
        return ()

    @property
    def unit_of_time(self) -> float:
        """The time by which runs of different sizes are alike."""
        return 1.0

    def counterpart(self, weights: int) -> Task | None:
        """The same problem by other means, where they take at most so many weights."""
        del weights
        return None
