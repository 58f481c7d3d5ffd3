"""How runs under way are watched."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .._devices import anywhere


@dataclass(frozen=True)
class Progress:
    """How far a run is: what is reported after every chunk of steps.

    Attributes:
        time: the time reached.
        t1: the end time.
        fraction: the share of the save times that lie behind; steady where these are spaced as
            the work is, as a logarithmic grid is for a flow that slows down.
        loss: the loss when it was last recorded.
        step: the next step's size.
        accepted: steps so far.
        rejected: steps refused so far; none are of a descent.
        gradient_evaluations: so far.
        seed: whose run this is, in an ensemble; `fraction` and `gradient_evaluations` are those of
            all runs together then.
        point: which of a study's problems is run; `fraction` is that of all then.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> told = []
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5), progress=told.append)
    >>> told[-1].time, told[-1].fraction
    (2.0, 1.0)
    """

    time: float
    t1: float
    fraction: float
    loss: float | None
    step: float
    accepted: int
    rejected: int
    gradient_evaluations: int
    seed: int | None = None
    point: str = ""


# What a run is told of those who watch: whom to call, or whether to show how far it is.
Shown = Callable[[Progress], None] | bool | None


class Run(Protocol):
    """A run that is advanced chunk by chunk. A flow is told how far by its time, a descent by its
    step; either is told by infinity to go to its end.

    Attributes:
        result: what ended it; ``None`` while it goes on.
    """

    result: str | None

    def passed(self, until: float) -> bool:
        """Whether it is at `until`, or has ended."""
        ...

    def advance(self, until: float) -> None:
        """Go on for a moment, at most as far as `until`."""
        ...

    def end(self, result: str) -> None:
        """End it here, unless it has ended."""
        ...

    def progress(self) -> Progress:
        """How far it is."""
        ...


@dataclass(frozen=True)
class Watch:
    """Whoever looks on.

    Attributes:
        progress: told now and then how far a run is; `gradflow.progress.shown` has made a
            function of what was ``True``.
        cancelled: asked now and then whether to end.
        keep: called wherever a run could go on from later, with whether it ends there: keeps its
            state, if it is time.
    """

    progress: Shown = None
    cancelled: Callable[[], bool] | None = None
    keep: Callable[[bool], None] | None = None

    def reach(self, run: Run, until: float = math.inf) -> None:
        """Advance `run` to `until`, to its end, or to where it is cancelled."""
        while not run.passed(until):
            run.advance(until)
            if callable(self.progress):
                self.progress(run.progress())
            ends = run.result is None and self._cancelled()
            if self.keep is not None:
                self.keep(ends)
            if ends:
                run.end("cancelled")

    def _cancelled(self) -> bool:
        return self.cancelled is not None and anywhere(self.cancelled())
