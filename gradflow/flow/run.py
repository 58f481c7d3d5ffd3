"""A run under way."""

from __future__ import annotations

import time as clock
from dataclasses import replace
from typing import Any

import diffrax
import jax
import numpy as np
from jaxtyping import PyTree

from .._devices import agreed, fetched
from .._linalg import PRECISION
from .._packing import packed, unpacked
from ..observables import Observable
from ..problem import Problem
from ..progress import Progress
from ..recording import rows_of, series
from ..solvers import stepping
from ..solvers.stepping import Carry, Kept
from ..solvers.watching import MAX_CROSSINGS
from ..trajectory import Trajectory
from .legs import Legs
from .plan import array, plan
from .spec import FlowSpec

_OUTCOMES = {
    stepping.END_TIME: "end_time",
    stepping.GRADIENT_NORM: "gradient_norm",
    stepping.LOSS: "loss",
    stepping.STEP_LIMIT: "step_limit",
    stepping.STEP_UNDERFLOW: "step_underflow",
    stepping.NOT_FINITE: "not_finite",
}

# Of these the last row is where the run ends; a start that is not finite has none.
_RECORDED_TO_THE_END = ("end_time", "gradient_norm", "loss", "not_finite")

# The host looks in this often: to report, to stop, to be interrupted.
_CHUNK_SECONDS = 0.2
_MOST = 1_000_000  # attempts in a chunk


class Pace:
    """How many attempts to make before the host looks in again.

    Attributes:
        attempts: so many; few at first.
    """

    def __init__(self) -> None:
        self.attempts = 8

    def took(self, attempts: int, seconds: float) -> None:
        """The last of them took so long."""
        most = min(16 * self.attempts, _MOST)
        self.attempts = int(np.clip(attempts / seconds * _CHUNK_SECONDS, 1, most))


class FlowRun:
    """A run that is advanced chunk by chunk, and read off at times that it has passed.

    Neither how often it is looked at nor where changes a single step. It advances by itself, or in
    one of the `Lanes` of a batch: then it knows of itself only what it was told last.

    Args:
        problem: what is solved.
        spec: how.
        solver: in place of the one that the spec can only name.
        observables: what is recorded.
        keep_step: whether it will be read off.
        alone: whether it advances by itself, so that its own loop is compiled.

    Attributes:
        result: what ended it, a key of `RESULTS`; ``None`` while it goes on.
        compile_seconds: what getting ready to step has taken.

    Raises:
        ValueError, TypeError: what the spec asks for does not go together, or not with the problem.
    """

    def __init__(
        self,
        problem: Problem,
        spec: FlowSpec,
        solver: str | diffrax.AbstractSolver,
        observables: tuple[Observable, ...],
        keep_step: bool = False,
        alone: bool = True,
    ):
        self._problem, self._spec, self._alone = problem, spec, alone
        began = clock.perf_counter()
        with jax.default_matmul_precision(PRECISION):
            self._plan = plan(problem, spec, solver, observables, keep_step)
            self._legs = Legs(self._plan, problem, spec)
            self._carry = self._compiled(self._legs.start())
        self.compile_seconds = clock.perf_counter() - began
        self._wall_seconds, self._pace = 0.0, Pace()
        self.result: str | None = None

    def _compiled(self, carry: Carry) -> Carry:
        """The carry that begins a leg, with everything compiled that the leg needs."""
        return self._legs.advance(carry, 0) if self._alone else carry

    @property
    def time(self) -> float:
        """How far it is."""
        return float(self._carry.t)

    @property
    def solver(self) -> str:
        """The name of the solver that runs."""
        return self._legs.solver

    @property
    def kept(self) -> Kept:
        """What the compiled loop takes beside the carry, while this solver runs."""
        return self._legs.kept

    @property
    def carry(self) -> Carry:
        """What it goes on from."""
        return self._carry

    def passed(self, until: float) -> bool:
        """Whether it is at `until`, or has ended."""
        return self.result is not None or self.time >= self.rounded(until)

    def advance(self, until: float = np.inf) -> None:
        """Go on for a moment, at most as far as the first step that reaches `until`."""
        with jax.default_matmul_precision(PRECISION):
            self._advance(until)

    def _advance(self, until: float) -> None:
        self.change_solver()
        tried, before = self._tried, clock.perf_counter()
        carry = self._legs.advance(self._carry, self._pace.attempts, until)
        passed = agreed(clock.perf_counter() - before)
        self.spend(passed)
        self.go_to(carry)
        self._pace.took(self._tried - tried, passed)

    @property
    def _tried(self) -> int:
        return int(self._carry.accepted) + int(self._carry.rejected)

    def change_solver(self) -> None:
        """The other solver takes over, if it is time."""
        if int(self._carry.outcome) == stepping.SWITCH:
            before = clock.perf_counter()
            with jax.default_matmul_precision(PRECISION):
                self._carry = self._compiled(self._legs.change(self._carry))
            self.compile_seconds += clock.perf_counter() - before

    def spend(self, seconds: float) -> None:
        """Its steps took so long; ends where that uses up what it was allowed."""
        self._wall_seconds += seconds
        allowed = self._spec.stop.wall_seconds
        if allowed is not None and self._wall_seconds >= allowed:
            self.end("wall_time")

    def go_to(self, carry: Carry) -> None:
        """It has come to `carry`; ends where that says so, for that reason before any other."""
        self._carry = carry
        self.result = _OUTCOMES.get(int(carry.outcome), self.result)

    def rounded(self, time: float) -> float:
        """A time as the run's own dtype has it."""
        return float(np.asarray(time, self._problem.dtype))

    def at(self, time: float) -> PyTree | None:
        """The parameters at `time`, from the plan's kept steps; ``None`` if it ended before.

        Only times in the last step can be read: those asked for must ascend.
        """
        time, last = self.rounded(time), self._carry.last
        assert last is not None, "the plan keeps no steps"
        if time > self.time:
            return None
        state = self._carry.state
        if time < self.time:
            assert time >= float(last.t0), "the step is gone"
            state = self._legs.read_off(last, time)
        return self._plan.field.params(state)

    def end(self, result: str) -> None:
        """End it here, unless it has ended."""
        if self.result is None:
            self.result = result

    def cut(self, time: float) -> None:
        """End it at `time`, in its last step, and forget what it recorded after that."""
        time = self.rounded(time)
        if time < self.time:
            carry, last = self._carry, self._carry.last
            assert last is not None, "the plan keeps no steps"
            kept = [np.sum(np.asarray(r.times) <= time) for r in carry.records]
            records = tuple(
                replace(r, filled=array(n, np.int32))
                for r, n in zip(carry.records, kept, strict=True)
            )
            state = self._legs.read_off(last, time)
            t = array(time, self._problem.dtype)
            self._carry = replace(carry, t=t, state=state, records=records)
            self.result = None
        self.end("cancelled")

    def progress(self) -> Progress:
        """How far it is, for whoever watches."""
        carry, plan = self._carry, self._plan
        fraction, evaluations = self.standing(int(carry.records[0].filled), int(carry.evaluations))
        loss = None
        for group, records in zip(plan.groups, carry.records, strict=True):
            for observable, values in zip(group.observables, records.values, strict=True):
                if observable.name == "loss" and int(records.filled) > 0:
                    loss = float(np.asarray(values)[int(records.filled) - 1])
        return Progress(
            time=self.time,
            t1=self._spec.t1,
            fraction=fraction,
            loss=loss,
            step=float(carry.t_next - carry.t),
            accepted=int(carry.accepted),
            rejected=int(carry.rejected),
            gradient_evaluations=evaluations,
        )

    def standing(self, rows: int, evaluations: int) -> tuple[float, int]:
        """The share of its save times that lies behind, and all gradient evaluations spent.

        Args:
            rows: recorded so far.
            evaluations: as the carry has them.
        """
        return rows / self._plan.save_times[0].size, self._plan.spent(evaluations)

    def state(self) -> dict[str, Any]:
        """All that `restore` goes on from, as `gradflow.storage` keeps it."""
        counter = self._plan.counter
        return {
            "result": self.result,
            "carry": packed(_without_rows(self._carry)),
            "record": self._so_far(),
            "legs": self._legs.state(),
            "counted": counter and counter.read(),
            "wall_seconds": self._wall_seconds,
            "compile_seconds": self.compile_seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of a run that was told the same, as if it had never been cut.

        Raises:
            ValueError: the state is of another run.
        """
        with jax.default_matmul_precision(PRECISION):
            like = self._legs.restore(state["legs"], self._carry)
            carry = unpacked(state["carry"], _without_rows(like))
            rows = rows_of(self._plan.groups, state["record"])
            records = tuple(
                replace(rest, **room.replaced(*found))
                for rest, room, found in zip(carry.records, like.records, rows, strict=True)
            )
            carry = replace(carry, records=records)
            self._carry = self._compiled(carry) if like is not self._carry else carry
        self._legs.limit_gradient(carry)
        if (counter := self._plan.counter) is not None:
            counter.set(state["counted"])
        self.result = state["result"]
        self._wall_seconds += state["wall_seconds"]
        self.compile_seconds += state["compile_seconds"]

    def trajectory(self) -> Trajectory:
        """All that was recorded of it, now that it has ended."""
        assert self.result is not None
        if self.result not in _RECORDED_TO_THE_END:
            with jax.default_matmul_precision(PRECISION):
                self._carry = self._legs.close(self._carry)
        params = self._problem.model(self._plan.field.params(self._carry.state))
        return replace(self._so_far(), final_params=params)

    def _so_far(self) -> Trajectory:
        """All that was recorded of it so far."""
        problem, plan, carry = self._problem, self._plan, self._carry
        stats: dict[str, Any] = {
            "gradient_evaluations": plan.evaluations(carry),
            "accepted": int(carry.accepted),
            "rejected": int(carry.rejected),
            **self._legs.report(carry),
            "wall_seconds": self._wall_seconds,
            "compile_seconds": self.compile_seconds,
        }
        every_record, watched = fetched((carry.records, carry.crossings))
        filled = [int(records.filled) for records in every_record]
        found = series(
            problem,
            plan.groups,
            [r.times[:n] for r, n in zip(every_record, filled, strict=True)],
            [
                jax.tree.map(lambda rows, n=n: rows[:n], r.values)
                for r, n in zip(every_record, filled, strict=True)
            ],
        )
        looked = plan.row_evaluations(filled)
        if looked or found.evaluations is not None:
            stats["observable_evaluations"] = looked + (found.evaluations or 0)
        crossings, event_values = {}, {}
        if watched is not None:
            for i, event in enumerate(problem.events):
                kept = min(int(watched.counts[i]), MAX_CROSSINGS)
                rows = np.asarray(watched.rows[i, :kept], dtype=np.float64)
                crossings[event.name] = rows[np.argsort(rows[:, 0], kind="stable")]
                event_values[event.name] = float(watched.last[i])
        return Trajectory(
            variables=found.variables,
            coords=found.coords,
            final_time=self.time,
            crossings=crossings,
            event_values=event_values,
            stats=stats,
            result=self.result or "unfinished",
            attrs={
                "field": getattr(self._spec.field, "kind", self._spec.field),
                "rtol": self._spec.rtol,
            },
        )


def _without_rows(carry: Carry) -> Carry:
    """All of a carry but what its record has too."""
    records = tuple(replace(r, times=None, values=None) for r in carry.records)
    return replace(carry, records=records)
