"""When something is recorded along a run."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from ._spec import Spec


class Linear(Spec):
    """Evenly spaced save times from 0 to t1, both included.

    Attributes:
        count: how many.

    >>> import gradflow as gf
    >>> gf.Linear(count=3).build(t1=1.0)
    array([0. , 0.5, 1. ])
    """

    kind: Literal["linear"] = "linear"
    count: Annotated[int, Field(ge=2, le=1_000_000)] = 200

    def build(self, t1: float) -> np.ndarray:
        """The save times, ascending, shape ``(count,)``."""
        return np.linspace(0.0, t1, self.count)

    def stretched(self, factor: float) -> Linear:
        """The same for an end that is `factor` times as late."""
        del factor
        return self


class Logarithmic(Spec):
    """Time 0, then save times evenly spaced in log t from `start` to t1.

    Attributes:
        count: how many, time 0 included.
        start: the first after time 0; t1 / 10,000 unless given.

    >>> import gradflow as gf
    >>> gf.Logarithmic(count=4, start=1.0).build(t1=100.0)
    array([  0.,   1.,  10., 100.])
    """

    kind: Literal["logarithmic"] = "logarithmic"
    count: Annotated[int, Field(ge=3, le=1_000_000)] = 200
    start: Annotated[float, Field(gt=0)] | None = None

    def build(self, t1: float) -> np.ndarray:
        """The save times, ascending, shape ``(count,)``.

        Raises:
            ValueError: `start` does not lie before `t1`.
        """
        start = t1 * 1e-4 if self.start is None else self.start
        if start >= t1:
            raise ValueError(f"start = {start:g} must lie before t1 = {t1:g}")
        times = np.geomspace(start, t1, self.count - 1)
        return np.concatenate([[0.0], times[:-1], [t1]])

    def stretched(self, factor: float) -> Logarithmic:
        """The same for an end that is `factor` times as late."""
        start = None if self.start is None else factor * self.start
        return Logarithmic(count=self.count, start=start)


class Explicit(Spec):
    """Save times as given.

    Attributes:
        times: ascending, from 0 on, none after t1.

    >>> import gradflow as gf
    >>> gf.Explicit(times=(0.0, 0.1, 0.5)).build(t1=1.0)
    array([0. , 0.1, 0.5])
    """

    kind: Literal["explicit"] = "explicit"
    # In strict mode a list would be refused, and a tuple is what a YAML file cannot say.
    times: Annotated[tuple[float, ...], Field(min_length=1, strict=False)]

    @field_validator("times")
    @classmethod
    def _ascending(cls, times: tuple[float, ...]) -> tuple[float, ...]:
        if times[0] < 0 or any(b <= a for a, b in pairwise(times)):
            raise ValueError("save times must be ascending, all different, and none below 0")
        return times

    def build(self, t1: float) -> np.ndarray:
        """The save times, shape ``(len(times),)``.

        Raises:
            ValueError: a time lies after `t1`.
        """
        if self.times[-1] > t1:
            raise ValueError(f"the save time {self.times[-1]:g} lies after t1 = {t1:g}")
        return np.asarray(self.times, dtype=float)

    def stretched(self, factor: float) -> Explicit:
        """The same for an end that is `factor` times as late."""
        return Explicit(times=tuple(factor * time for time in self.times))


SaveTimes = Annotated[Linear | Logarithmic | Explicit, Field(discriminator="kind")]
