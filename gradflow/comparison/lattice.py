"""When flow and descents are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..save_times import Explicit, SaveTimes
from ..trajectory import SAME, nearest_rows


@dataclass(frozen=True)
class Lattice:
    """Times of comparison, and what each run has to record for them.

    A descent is where it is only after whole steps. So the save times asked for are moved to the
    nearest multiples of the largest learning rate, and these are the times of comparison: every
    rate that divides the largest is there exactly. Another rate is compared at its own nearest
    step, the last one up to the end where that lies beyond it, and the flow is read at that
    step's time: `matched` says when, nothing is interpolated.

    Attributes:
        nominal: the save times asked for, shape ``(n,)``; what the flow's own record keeps.
        times: of comparison, ascending, shape ``(k,)``.
        steps: of every descent at each of them, shape ``(k, rates)``.
        matched: their times, steps x learning rate, of the same shape.
        flow: all the times that the flow has to record, ascending, shape ``(f,)``.
    """

    nominal: np.ndarray
    times: np.ndarray
    steps: np.ndarray
    matched: np.ndarray
    flow: np.ndarray


def lattice(save: SaveTimes, t1: float, rates: Sequence[float], most: Sequence[int]) -> Lattice:
    """The times of comparison for the save times asked for.

    Args:
        save: the save times.
        t1: the end time.
        rates: the learning rates.
        most: the last step of each.
    """
    nominal = save.build(t1)
    largest = int(np.argmax(rates))
    steps = np.unique(np.minimum(np.rint(nominal / rates[largest]), most[largest]))
    times = np.minimum(steps * rates[largest], t1)
    every = np.minimum(np.rint(times[:, None] / np.asarray(rates)), np.asarray(most))
    every[:, largest] = steps
    matched = np.minimum(every * np.asarray(rates), t1)
    # The same time as a multiple of two rates differs in its last digit.
    others = np.unique(matched)
    others = others[np.diff(others, prepend=-np.inf) > SAME * others]
    others = others[~nearest_rows(nominal, others)[1]]
    flow = np.sort(np.concatenate([nominal, others]))
    return Lattice(nominal, times, every.astype(np.int64), matched, flow)


def explicit(times: np.ndarray) -> Explicit:
    """Save times as given."""
    return Explicit(times=tuple(times.tolist()))
