"""What is measured on one draw of a test problem."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Point:
    """One run of one method.

    Attributes:
        method: its name.
        rung: its tolerance; of a method of fixed steps, the step times the sharpness.
        evaluations: of the gradient, in all.
        final: the error at the end.
        worst: the largest error on the way.
        seconds: of every repetition, compilation apart.
        accepted: steps; ``None`` where a method does not say.
        rejected: likewise.
        estimator: evaluations spent on the spectral radius; ``None`` unless it was counted.
        note: which solvers ran, where a method changes between them.
    """

    method: str
    rung: float
    evaluations: int
    final: float
    worst: float
    seconds: list[float]
    accepted: int | None = None
    rejected: int | None = None
    estimator: int | None = None
    note: str = ""

    @property
    def wall(self) -> float:
        """The median of `seconds`."""
        return statistics.median(self.seconds)


@dataclass
class Draw:
    """What was measured on one draw of a test problem.

    Attributes:
        case: the test problem's name.
        seed: which draw.
        size: the number of parameters.
        stiffness: Lambda, the integral of the sharpness over the run.
        points: the runs, method by method, from the loosest tolerance on.
        failures: by method, the message of the run after which it was given up.
    """

    case: str
    seed: int
    size: int
    stiffness: float
    points: list[Point] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of test problem and seed."""
        return f"{self.case} {self.seed}"

    @property
    def methods(self) -> dict[str, list[Point]]:
        """The runs by method."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.method, []).append(point)
        return found

    def plain(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Draw:
        """What `plain` gave."""
        return cls(**(plain | {"points": [Point(**point) for point in plain["points"]]}))
