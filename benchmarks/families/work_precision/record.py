"""What is measured, and how it is kept: one JSON file for each benchmark."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

_PACKAGES = ("gradflow", "jax", "jaxlib", "diffrax", "equinox", "numpy", "scipy", "extensisq")


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


def write(path: Path, draws: Sequence[Draw]) -> None:
    """The file with versions, device and commit."""
    content = {"made": made(), "draws": [asdict(draw) for draw in draws]}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(content, indent=1))
    os.replace(beside, path)


def read(path: Path) -> list[Draw]:
    """What `write` wrote."""
    draws = json.loads(path.read_text())["draws"]
    return [Draw(**(d | {"points": [Point(**p) for p in d["points"]]})) for d in draws]


def made() -> dict[str, Any]:
    """What a measurement depends on beside itself: versions, device, load, commit."""
    root = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=root, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    return {
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
        "device": f"{jax.devices()[0].platform} ({jax.devices()[0].device_kind})",
        "processors": os.cpu_count(),
        "load": [float(x) for x in np.round(os.getloadavg(), 2)],
        "commit": commit or None,
    }
