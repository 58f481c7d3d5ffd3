"""Statements of a paper, checked along one run or along many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..analysis import band, proportion_interval


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

    >>> import gradflow as gf
    >>> claim = gf.tasks.Claim("the loss falls", "Thm 1", "slope", -1.0, held=True, share=1.0)
    >>> claim.cells()
    ('the loss falls', 'Thm 1', 'yes', '100 %', '', 'slope -1')
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

    def cells(self) -> tuple[str, ...]:
        """Its row of a table, under `HEADING`."""
        held = {True: "yes", False: "NO", None: "-"}[self.held]
        share = "" if self.share is None else f"{_percent(self.share)} %"
        times = dict.fromkeys(f"{time:.3g}" for time in self.interval or ())
        measured = self.quantity
        if self.value is not None:
            error = "" if self.error is None else f" +- {self.error:.1g}"
            measured += f" {self.value:.4g}{error}"
        return self.name, self.source, held, share, " to ".join(times), measured + _note(self.note)


HEADING = ("claim", "source", "held", "share", "times", "measured")


class Tally(NamedTuple):
    """A claim, checked along the runs of several seeds.

    Attributes:
        name, source, quantity: as `Claim` has them.
        seeds: runs that it was looked at in.
        decided: runs of which it can be said whether it held.
        held: runs of these in which it did.
        share: held / decided; ``None`` if nothing was decided.
        low, high: the 95 % confidence interval of that share over all seeds there could be, by
            Clopper and Pearson.
        log_time: the share of the interval's log time in which it held, in the median run.
        value: the number that was measured, in the median run; ``None`` if there is none.
        value_low, value_high: between these lie eight runs in ten.
        error: the largest estimated error of the number, if the runs were certified.
        note: why some runs, or all, are undecided.
        by_seed: `value`, `held` and `share` of every run's `Claim`, by seed.

    >>> import gradflow as gf
    >>> claim = gf.tasks.Claim("the loss falls", "Thm 1", "slope", -1.0, held=True, share=1.0)
    >>> tallied = gf.tasks.tally({0: [claim], 1: [claim._replace(held=False)]})

    >>> tallied[0].held, tallied[0].decided, round(tallied[0].low, 4)  # 1 - sqrt(0.975)
    (1, 2, 0.0126)
    """

    name: str
    source: str
    quantity: str
    seeds: int
    decided: int
    held: int
    share: float | None
    low: float | None
    high: float | None
    log_time: float | None
    value: float | None
    value_low: float | None
    value_high: float | None
    error: float | None
    note: str
    by_seed: dict[str, dict[str, Any]]

    def cells(self) -> tuple[str, ...]:
        """Its row of a table, under `TALLY_HEADING`."""
        held = share = interval = log_time = ""
        if self.share is not None and self.low is not None and self.high is not None:
            held, share = f"{self.held} of {self.decided}", f"{_percent(self.share)} %"
            interval = f"{_percent(self.low)} to {_percent(self.high)} %"
        if self.log_time is not None:
            log_time = f"{_percent(self.log_time)} %"
        measured = self.quantity
        if self.value is not None:
            measured += f" {self.value:.4g}"
            if self.value_low != self.value_high:
                measured += f" ({self.value_low:.4g} to {self.value_high:.4g})"
        measured += _note(self.note)
        return self.name, self.source, held or "-", share, interval, log_time, measured


TALLY_HEADING = (
    "claim", "source", "seeds", "share", "95 % interval", "log time",
    "measured: median (10 to 90 % of seeds)",
)  # fmt: skip


def tally(claims: Mapping[int, Sequence[Claim]]) -> tuple[Tally, ...]:
    """What the runs of several seeds say of each claim.

    Args:
        claims: those of every run, in one order, by its seed.

    Returns:
        A `Tally` for each claim, in that order.

    >>> import gradflow as gf
    >>> claim = gf.tasks.Claim("the loss falls", "Thm 1", "slope", -1.0, held=True, share=1.0)
    >>> tallied = gf.tasks.tally({0: [claim], 1: [claim._replace(held=False)]})

    >>> tallied[0].share, tallied[0].by_seed["1"]["held"]
    (0.5, False)
    """
    return tuple(
        _tally(dict(zip(claims, one, strict=True))) for one in zip(*claims.values(), strict=True)
    )


def _tally(claims: Mapping[int, Claim]) -> Tally:
    first = next(iter(claims.values()))
    held = [claim.held for claim in claims.values() if claim.held is not None]
    low, high = proportion_interval(sum(held), len(held)) if held else (None, None)
    values = _known(claim.value for claim in claims.values())
    found = [float(x) for x in band(np.array(values))] if values else [None] * 3
    shares = _known(claim.share for claim in claims.values())
    return Tally(
        first.name,
        first.source,
        first.quantity,
        seeds=len(claims),
        decided=len(held),
        held=sum(held),
        share=sum(held) / len(held) if held else None,
        low=low,
        high=high,
        log_time=float(np.median(shares)) if shares else None,
        value=found[1],
        value_low=found[0],
        value_high=found[2],
        error=max(_known(claim.error for claim in claims.values()), default=None),
        note=_reason(claims.values()),
        by_seed={
            str(seed): {"value": claim.value, "held": claim.held, "share": claim.share}
            for seed, claim in claims.items()
        },
    )


def _known(values: Any) -> list[float]:
    return [value for value in values if value is not None]


def _reason(claims: Any) -> str:
    """What the notes of most undecided runs say, and how many these are unless all."""
    notes = [claim.note for claim in claims if claim.held is None]
    if not notes:
        return ""
    note, times = Counter(notes).most_common(1)[0]
    note = note if 2 * times > len(notes) else ""  # else it speaks of single runs
    if len(notes) == len(claims):
        return note
    return f"{len(notes)} undecided" + (f": {note}" if note else "")


def tabulated(claims: Sequence[Claim] | Sequence[Tally]) -> list[str]:
    """The claims as an aligned table, a line each under a heading; empty without any.

    >>> import gradflow as gf
    >>> claim = gf.tasks.Claim("the loss falls", "Thm 1", "slope", -1.0, held=True, share=1.0)
    >>> for line in gf.tasks.tabulated([claim]):
    ...     print(line)
    claim           source  held  share  times  measured
    the loss falls  Thm 1   yes   100 %         slope -1
    """
    if not claims:
        return []
    heading = HEADING if isinstance(claims[0], Claim) else TALLY_HEADING
    rows = [heading, *(claim.cells() for claim in claims)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _note(note: str) -> str:
    return f" ({note})" if note else ""


def _percent(share: float) -> str:
    """Rounded, and 0 and 100 only where it is all or nothing."""
    percent = round(100 * share)
    if percent in (0, 100) and share not in (0, 1):
        return "< 1" if share < 0.5 else "> 99"
    return str(percent)
