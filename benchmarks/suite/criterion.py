"""A target, and what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Criterion:
    """A target: all values are to be at most so large. The worst of them decides; NaN fails.

    One that nothing was measured for says so, and neither passes nor fails.

    Attributes:
        what: is held against what.
        target: the most that is allowed.
        values: by the name of what they were measured on.
    """

    what: str
    target: float
    values: Mapping[str, float]

    @property
    def passed(self) -> bool | None:
        """Whether all values are at most the target; ``None`` if there are none."""
        return all(map(self._holds, self.values.values())) if self.values else None

    @property
    def worst(self) -> tuple[str, float] | None:
        """The name and the value that decide: NaN, or the largest; ``None`` if there are none."""
        found = self.values.items()
        return max(found, key=lambda item: (math.isnan(item[1]), item[1]), default=None)

    def _holds(self, value: float) -> bool:
        return value <= self.target

    def __str__(self) -> str:
        verdict = {True: "pass", False: "FAIL", None: "----"}[self.passed]
        head = f"{verdict}  {self.what}: at most {self.target:.3g}"
        if self.worst is None:
            return f"{head}; not measured"
        name, most = self.worst
        values = self.values.values()
        over = sum(not self._holds(value) for value in values)
        numbers = [value for value in values if not math.isnan(value)]
        span = f"{min(numbers):.3g} to " if len(values) > 1 and numbers else ""
        missed = f", {over} of {len(self.values)} above" if over else ""
        return f"{head}; {span}{most:.3g} ({name}){missed}"
