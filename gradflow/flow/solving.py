"""A run with its certificate: what `solve` advances, keeps and goes on from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffrax

from ..observables import Observable
from ..problem import Problem
from ..progress import Watch
from ..storage import Checkpoints, digest
from ..trajectory import Trajectory
from .certificate import Certificate
from .run import FlowRun
from .spec import FlowSpec


class Solving:
    """A run, and its shadow if it is to be certified.

    Args:
        problem: what is solved.
        spec: how.
        solver: in place of the one that the spec can only name.
        observables: what is recorded.
        checkpoints: where its state is kept; it goes on from the latest.

    Raises:
        ValueError, TypeError: what the spec asks for does not go together, or not with the problem.
        OtherRunError: the checkpoints are of another run.
    """

    def __init__(
        self,
        problem: Problem,
        spec: FlowSpec,
        solver: str | diffrax.AbstractSolver,
        observables: tuple[Observable, ...],
        checkpoints: Checkpoints | None = None,
    ):
        self._spec, self._checkpoints = spec, checkpoints
        self._run = FlowRun(problem, spec, solver, observables, keep_step=spec.certify)
        self._certificate = Certificate(problem, spec, observables) if spec.certify else None
        self._certified = 0  # save times at which the error is known
        if checkpoints is not None:
            told = identity(problem, spec, solver, observables)
            checkpoints.go_on(told, self._restore)

    def _state(self) -> dict[str, Any]:
        certificate = self._certificate
        return {
            "flow": self._run.state(),
            "certificate": certificate and certificate.state(),
            "certified": self._certified,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self._run.restore(state["flow"])
        self._certified = state["certified"]
        if self._certificate is not None:
            self._certificate.restore(state["certificate"])

    def go(self, watch: Watch) -> Trajectory:
        """Run to the end, or to where whoever watches ends it."""
        run, spec, kept = self._run, self._spec, self._checkpoints
        asked = []
        if kept is not None:
            watch = replace(watch, keep=lambda ends: kept.keep(self._state, last=ends))
            asked = kept.times(spec.t1, after=run.time)
        to_certify = []
        if self._certificate is not None:
            to_certify = spec.save.build(spec.t1).tolist()[self._certified :]
        stops = sorted([(t, False) for t in asked] + [(t, True) for t in to_certify])
        for time, certify in stops:
            watch.reach(run, time)
            if certify:
                assert self._certificate is not None
                self._certificate.look(run, time, watch)
                self._certified += 1
            elif run.result is None and kept is not None:
                kept.keep(self._state, now=True)
        watch.reach(run)
        if kept is not None:
            kept.keep(self._state, now=kept.number > 0)
        if self._certificate is None:
            return run.trajectory()
        return self._certificate.attach(run, watch)


def identity(
    problem: Problem,
    spec: FlowSpec,
    solver: str | diffrax.AbstractSolver,
    observables: tuple[Observable, ...],
) -> dict[str, Any]:
    """What a run was told, by key: for a state to be gone on from it must be the same."""
    named = spec.model_copy(update={"solver": "auto"}).model_dump(mode="json")
    return {
        **named,
        "solver": solver if isinstance(solver, str) else type(solver).__name__,
        "observables": [o.name for o in observables],
        "params": digest(problem.params, problem.static),
        "data": digest(problem.data),
    }
