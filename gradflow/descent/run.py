"""A descent under way."""

from __future__ import annotations

import math
import time as clock
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key, PyTree

from .._devices import agreed, placed_like
from .._linalg import PRECISION
from .._packing import packed, unpacked
from ..problem import Problem
from ..progress import Progress
from ..recording import Group, rows_of, series
from ..trajectory import TIME, Trajectory, Variable
from . import stability, stepping
from .rows import Rows
from .stepping import Carry, Descent, Optimiser

# The host looks in this often: to report, to be interrupted.
_CHUNK_SECONDS = 0.2
_MOST = 10_000_000  # steps in a chunk


class DescentRun:
    """A descent that is advanced chunk by chunk, and read off at steps.

    Args:
        problem: the loss, where it starts and what it sees.
        optimiser: as `descend` takes it.
        learning_rate: the time of a step.
        steps: how many.
        groups: what is recorded when.
        end: of the save times.
        batch_size: samples in a batch; ``None`` for all.
        key: from which they are drawn.

    Attributes:
        result: what ended it; ``None`` while it goes on.

    Raises:
        TypeError: the problem has no loss, or the optimiser needs what it is not given.
        ValueError: there can be no such batches, or they lack a key.
    """

    def __init__(
        self,
        problem: Problem,
        optimiser: Optimiser,
        learning_rate: float,
        steps: int,
        groups: tuple[Group, ...],
        end: float,
        batch_size: int | None = None,
        key: Key[Array, ""] | None = None,
    ):
        self.learning_rate, self.steps = learning_rate, steps
        self.result: str | None = None
        self._problem = problem
        self._descent = Descent.of(problem, optimiser, learning_rate, batch_size, key)
        self._wall_seconds, self._spent, self._looked, self._chunk = 0.0, 0, 0, 8
        began = clock.perf_counter()
        with jax.default_matmul_precision(PRECISION):
            self._carry = self._begin()
            # A state from which the last finite one is reached again, if a later one is not.
            self._safe = self._carry
            self._rows = [Rows(problem, group, learning_rate, steps, end) for group in groups]
            if not self._record():
                self.result = "not_finite"
        self._compile_seconds = clock.perf_counter() - began

    def _begin(self) -> Carry:
        descent, problem = self._descent, self._problem
        carry = placed_like(problem.params, stepping.start(descent, problem.params))
        return self._steps_to(0, carry)  # only compiles

    @property
    def step(self) -> int:
        """How many steps were made."""
        return int(self._carry.step)

    @property
    def time(self) -> float:
        """The time that they stand for."""
        return self.learning_rate * self.step

    @property
    def params(self) -> PyTree:
        """The parameters after them."""
        return self._carry.params

    def recorded_at_start(self, name: str) -> float | None:
        """A scalar that is recorded, at step 0; ``None`` where it is not."""
        values = (rows.at_start(name) for rows in self._rows)
        return next((value for value in values if value is not None), None)

    def check_rate(self, sharpness: float | None = None) -> bool:
        """Warn of steps that are too long for where it starts.

        Args:
            sharpness: of the loss at the start, if it is known.

        Returns:
            Whether the steps are those of plain descent, of which alone this can be said.

        Raises:
            ValueError: the optimiser's steps are those of another rate.
        """
        with jax.default_matmul_precision(PRECISION):
            plain = stability.plain_step(self._descent, self._problem.params)
            if plain is None:
                return False
            if not math.isclose(plain, self.learning_rate, rel_tol=1e-4):
                raise ValueError(
                    f"the optimiser's steps are {plain:g} times the gradient, but learning_rate = "
                    f"{self.learning_rate:g}; give both the same, or pass the function that makes "
                    "it, e.g. optax.sgd"
                )
            if sharpness is None:
                sharpness = stability.initial_sharpness(self._problem)
                self._looked += stability.cost(self._problem)
        stability.warn(self.learning_rate, sharpness)
        return True

    def passed(self, until: float) -> bool:
        """Whether it is at the step `until`, or has ended."""
        return self.result is not None or self.step >= until

    def advance(self, until: float) -> None:
        """Go on for a moment, at most to the step `until`; what is due on the way is recorded."""
        began = clock.perf_counter()
        with jax.default_matmul_precision(PRECISION):
            due = [rows.due for rows in self._rows if rows.due is not None]
            goal = int(min(until, self.steps, self.step + self._chunk, *due))
            self._go(goal)
        self._wall_seconds += clock.perf_counter() - began

    def _go(self, goal: int) -> None:
        before, began = self._carry, clock.perf_counter()
        after = self._steps_to(goal, before)
        made = int(after.step) - int(before.step)
        rate = made / agreed(clock.perf_counter() - began)
        most = min(4 * max(made, self._chunk), _MOST)
        self._chunk = int(np.clip(rate * _CHUNK_SECONDS, 1, most))
        if not bool(after.finite):
            self._diverge(int(after.step))
            return
        self._carry, self._safe = after, before
        if not self._record():
            self._diverge(self.step - 1)
        elif self.step == self.steps:
            self.result = "end_time"

    def _steps_to(self, goal: int, carry: Carry) -> Carry:
        until = jax.device_put(np.asarray(goal, np.int32))
        after = stepping.advance(self._descent, self._problem.data, until, carry)
        self._spent += int(after.step) - int(carry.step)
        return after

    def _record(self) -> bool:
        """Record what is due at this step; false if something there is not finite."""
        for rows in self._rows:
            if rows.due == self.step:
                if not rows.record(self.step, self._carry):
                    return False
                self._safe = self._carry
        return True

    def _diverge(self, most: int) -> None:
        """End it at the last step up to `most` at which all is finite."""
        safe = self._safe
        until = jax.device_put(np.asarray(most, np.int32))
        last = int(stepping.last_finite(self._descent, self._problem.data, until, safe))
        self._spent += min(last + 2, most + 1) - int(safe.step)
        self.result = "not_finite" if last < 0 else "diverged"
        # By the same program as before, so that not a bit of it depends on where chunks ended.
        self._carry = self._steps_to(last, safe) if last > int(safe.step) else safe

    def end(self, result: str) -> None:
        """End it here, unless it has ended."""
        if self.result is None:
            self.result = result

    def progress(self) -> Progress:
        """How far it is, for whoever watches."""
        return Progress(
            time=self.time,
            t1=self.learning_rate * self.steps,
            fraction=self.step / self.steps,
            loss=next((r.loss for r in self._rows if r.loss is not None), None),
            step=self.learning_rate,
            accepted=self.step,
            rejected=0,
            gradient_evaluations=self._spent,
        )

    def state(self) -> dict[str, Any]:
        """All that `restore` goes on from, as `gradflow.storage` keeps it."""
        return {
            "result": self.result,
            "carry": packed(self._carry),
            "safe": None if self._safe is self._carry else packed(self._safe),
            "record": self._so_far(),
            "rows": [rows.state() for rows in self._rows],
            "spent": self._spent,
            "looked": self._looked,
            "wall_seconds": self._wall_seconds,
            "compile_seconds": self._compile_seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of a descent that was told the same, as if it had never been cut.

        Raises:
            ValueError: the state is of another descent.
        """
        like = self._carry
        self._carry = unpacked(state["carry"], like)
        self._safe = self._carry if state["safe"] is None else unpacked(state["safe"], like)
        every = rows_of([rows.group for rows in self._rows], state["record"])
        with jax.default_matmul_precision(PRECISION):
            for rows, kept, (_, found) in zip(self._rows, state["rows"], every, strict=True):
                rows.restore(kept, found, self._carry)
        self.result, self._spent = state["result"], state["spent"]
        self._looked = state["looked"]
        self._wall_seconds += state["wall_seconds"]
        self._compile_seconds += state["compile_seconds"]

    def trajectory(self) -> Trajectory:
        """All that was recorded of it, now that it has ended."""
        assert self.result is not None
        if self.result != "not_finite":
            with jax.default_matmul_precision(PRECISION):
                for rows in self._rows:
                    rows.close(self.step, self._carry)
        return replace(self._so_far(), final_params=self._problem.model(self.params))

    def _so_far(self) -> Trajectory:
        """All that was recorded of it so far."""
        found = series(
            self._problem,
            [rows.group for rows in self._rows],
            [self.learning_rate * rows.steps for rows in self._rows],
            [rows.values() for rows in self._rows],
        )
        main = self._rows[0]
        variables = {"step": Variable(main.steps, (TIME,), "step"), **found.variables}
        looked = self._looked + sum(rows.evaluations for rows in self._rows)
        stats: dict[str, Any] = {
            "learning_rate": self.learning_rate,
            "steps": self.step,
            "diverged": self.result in ("diverged", "not_finite"),
            "gradient_evaluations": self._spent,
            "observable_evaluations": looked + (found.evaluations or 0),
            "wall_seconds": self._wall_seconds,
            "compile_seconds": self._compile_seconds,
        }
        return Trajectory(
            variables=variables,
            coords=found.coords,
            final_time=self.time,
            stats=stats,
            result=self.result or "unfinished",
        )
