"""What every built-in problem offers."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from jaxtyping import Array

from .._spec import Spec
from ..observables import Event, Observable, PlainObservable
from ..plotting import ENERGY, LOSS, Figure
from ..problem import Problem
from ..trajectory import SEED, Trajectory
from .claims import Claim
from .measure import Measure


class Task(Spec, abc.ABC):
    """A spec that builds a problem and knows what to make of its trajectories.

    Subclasses have a field ``kind``, a literal by which configuration files choose them.

    ``title`` is what figures call it beside its `counterpart`, and ``sizes`` are the fields against
    which its `measures` may be followed, with what a figure writes on that axis.

    >>> import gradflow as gf
    >>> import optax
    >>> class Bowl(gf.tasks.Task):
    ...     sizes = {"width": "width $m$"}
    ...     kind: str = "bowl"
    ...     width: int = 1
    ...     def build(self, key, data_key=None):
    ...         return gf.Problem(optax.l2_loss, float(self.width), 0.0)  # L = width^2 / 2
    >>> problem = Bowl(width=3).build(key=None)  # which draws nothing here
    >>> float(problem.loss(problem.params, problem.data))
    4.5
    """

    title: ClassVar[str] = ""
    sizes: ClassVar[Mapping[str, str]] = {}
    observables: ClassVar[tuple[Observable | PlainObservable, ...]] = ()
    events: ClassVar[tuple[Event, ...]] = ()
    figures: ClassVar[tuple[Figure, ...]] = (LOSS, ENERGY)
    ensemble_figures: ClassVar[tuple[Figure, ...] | None] = None  # in their place over seeds

    @property
    def source(self) -> Path | None:
        """A file of the user's that the problem is made by; a run keeps a copy."""
        return None

    @abc.abstractmethod
    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of initial parameters from `key`, and of data from `data_key`.

        Without a `data_key` both are drawn from `key`. Either way the data of two problems are
        the same where the key that they are drawn from is, and likewise the parameters.
        """

    def drawn(self, trajectory: Trajectory) -> tuple[Figure, ...]:
        """Its figures of what was recorded."""
        if SEED in trajectory.coords and self.ensemble_figures is not None:
            return self.ensemble_figures
        return self.figures

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
