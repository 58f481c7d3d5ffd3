"""A target, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Criterion:
    """A target: all values are to be at most so large. The worst of them decides.

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
        return max(self.values.values()) <= self.target if self.values else None

    def __str__(self) -> str:
        verdict = {True: "pass", False: "FAIL", None: "----"}[self.passed]
        head = f"{verdict}  {self.what}: at most {self.target:.3g}"
        if not self.values:
            return f"{head}; not measured"
        name, most = max(self.values.items(), key=lambda item: item[1])
        over = sum(value > self.target for value in self.values.values())
        span = f"{min(self.values.values()):.3g} to " if len(self.values) > 1 else ""
        missed = f", {over} of {len(self.values)} above" if over else ""
        return f"{head}; {span}{most:.3g} ({name}){missed}"
