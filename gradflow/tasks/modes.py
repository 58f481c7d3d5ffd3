"""The singular modes of a linear task, as a run learns one after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
from jaxtyping import Array, Float
from pydantic import AfterValidator, Field, ValidationInfo

from ..analysis import positive_since
from ..observables import Event, Observable, Snapshot
from ..plotting import Figure, Line, Panel
from ..trajectory import Trajectory
from .checking import UnansweredError, ascending
from .claims import Claim


def _descending(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(b > a for a, b in pairwise(values)):
        raise ValueError("singular values must be descending, the largest first")
    return values


# In strict mode a list would be refused, and a tuple is what a YAML file cannot say.
SingularValues = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...],
    Field(min_length=1, max_length=1000, strict=False),
    AfterValidator(_descending),
]


def room_for_modes(size: int, fields: ValidationInfo) -> int:
    """The size, if it is at least the number of ``strengths`` of the same spec.

    Raises:
        ValueError: it is less.
    """
    modes = len(fields.data.get("strengths", ()))  # none where they are refused themselves
    if size < modes:
        raise ValueError(f"got {size} for {modes} modes; allowed: {modes} or more")
    return size


Strengths = Callable[[Snapshot], Float[Array, " modes"]]


@dataclass(frozen=True)
class _HalfLearnt:
    """Positive once a mode is stronger than half of what it is in the task."""

    strengths: Strengths
    mode: int
    half: float

    def __call__(self, snapshot: Snapshot) -> Float[Array, ""]:
        return self.strengths(snapshot)[self.mode] - self.half


@dataclass(frozen=True)
class Modes:
    """The modes of a task, numbered from the strongest, 1.

    Mode k is learnt at the time T_k at which it has half of its strength.

    Attributes:
        singular_values: of the task, descending.
        strengths: of the modes in what has been learnt so far.
    """

    singular_values: tuple[float, ...]
    strengths: Strengths

    @property
    def labels(self) -> tuple[int, ...]:
        """Their numbers."""
        return tuple(range(1, len(self.singular_values) + 1))

    @property
    def observable(self) -> Observable:
        """``strength(time, mode)``."""
        axes = (("mode", self.labels),)
        return Observable("strength", self.strengths, axes, "strength of the mode")

    @property
    def events(self) -> tuple[Event, ...]:
        """Where each is learnt."""
        return tuple(
            Event(f"learnt_{k}", _HalfLearnt(self.strengths, k - 1, s / 2))
            for k, s in zip(self.labels, self.singular_values, strict=True)
        )

    def phases(self, trajectory: Trajectory) -> dict[str, float | None]:
        """T1, T2 and so on; ``None`` for a mode that is not learnt by the end."""
        names = ((f"T{k}", f"learnt_{k}") for k in self.labels)
        final = trajectory.event_values
        return {
            name: positive_since(trajectory.crossings[event], final[event]) for name, event in names
        }

    def times(self, trajectory: Trajectory) -> np.ndarray:
        """T_k of all modes, shape ``(modes,)``.

        Raises:
            UnansweredError: not all are learnt on the way.
        """
        found = self.phases(trajectory)
        if missing := [name for name, time in found.items() if time is None]:
            names, end = ", ".join(missing), trajectory.final_time
            raise UnansweredError(f"{names} not reached by t = {end:.3g}")
        if 0.0 in found.values():
            raise UnansweredError("a mode is learnt from the start")
        return np.array(list(found.values()), float)

    def ordered(self, trajectory: Trajectory, claim: Claim) -> Claim:
        """The claim that a stronger mode is learnt before a weaker one, by a factor in time."""
        return ascending(claim, self.times(trajectory))

    def figure(self, theory: Callable[[Trajectory], np.ndarray], name: str, caption: str) -> Figure:
        """The strengths over time, and over them what a theory says they are.

        Args:
            theory: their strengths at the trajectory's times, shape ``(n, modes)``.
            name: of the theory, for the legend.
            caption: of the figure.
        """

        def predicted(k: int) -> Callable[[Trajectory], tuple[np.ndarray, np.ndarray]]:
            return lambda trajectory: (
                trajectory.times("strength"),
                theory(trajectory)[:, k - 1],
            )

        last = max(len(self.labels) - 1, 1)
        lines = [
            Line("strength", {"mode": k}, f"mode {k}", 1 - (k - 1) / last, "solid")
            for k in self.labels
        ]
        lines += [
            Line(predicted(k), label=name if k == 1 else "", colour="sky", dash="dashed")
            for k in self.labels
        ]
        panel = Panel(tuple(lines), ylabel="strength of the mode")
        return Figure.both_time_scales("modes", panel, caption)
