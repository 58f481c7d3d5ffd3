"""The legs of a run: one for each time that a solver took over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from ..problem import Problem
from ..solvers import stepping
from ..solvers.stepping import Carry, Limits, Stepper
from .plan import Plan, array
from .spec import FlowSpec

# Attempts of the explicit solver before the stabilised one is tried again after a leg in which
# it saved nothing; four times as many after each such leg.
_PATIENCE = 64


class Legs:
    """Runs the plan's solvers, one at a time, and keeps a log of which ran when.

    Args:
        plan: the run.
    """

    def __init__(self, plan: Plan):
        self._plan = plan
        self._names = list(plan.steppers)
        self._log: list[dict[str, Any]] = []
        self._began = (0.0, 0, 0, 0)
        self._patience = 0

    @property
    def _stepper(self) -> Stepper:
        return self._plan.steppers[self._names[0]]

    def start(self, problem: Problem, spec: FlowSpec) -> Carry:
        """The carry at t = 0, with everything compiled that the first leg needs."""
        stepper, stop = self._stepper, spec.stop
        state = self._plan.field.init(problem.params)
        self._data: PyTree = problem.data
        t1 = array(spec.t1, problem.dtype)
        carry = stepping.start(stepper, state, self._plan.save_times, t1, self._data)
        norms = [stop.gradient_norm or -1.0]
        if stop.relative_gradient_norm is not None:
            norms.append(stop.relative_gradient_norm * float(carry.first_slope))
        self._limits = Limits(
            t1=t1,
            max_steps=array(spec.max_steps, np.int32),
            gradient_norm=array(max(norms), problem.dtype),
            loss=array(0.0 if stop.loss is None else stop.loss, problem.dtype),
            patience=array(0, np.int32),
        )
        return self.advance(carry, 0)

    def advance(self, carry: Carry, attempts: int) -> Carry:
        """Up to `attempts` further steps; with none of them, only the compilation."""
        plan = self._plan
        kept = (self._stepper, plan.save_times, self._limits, self._data, array(attempts, np.int32))
        return jax.block_until_ready(stepping.advance(kept, carry))

    def change(self, carry: Carry) -> Carry:
        """The other solver takes over."""
        assert carry.switching is not None
        self._write(carry)
        stabilised = carry.switching.direction is None
        if stabilised:
            failed = float(carry.switching.saved) < 0
            self._patience = max(_PATIENCE, 4 * self._patience) if failed else 0
            self._limits = replace(self._limits, patience=array(self._patience, np.int32))
        self._names.reverse()
        return self.advance(stepping.hand_over(self._stepper, carry, self._data), 0)

    def close(self, carry: Carry) -> Carry:
        """Record the end of a run that was cut short."""
        return stepping.close(self._stepper, carry, self._data)

    def report(self, carry: Carry) -> dict[str, Any]:
        """Which solvers ran, and when: ``solver``, their names, and ``legs``."""
        self._write(carry)
        names = dict.fromkeys(leg["solver"] for leg in self._log)
        return {"solver": " and ".join(names), "legs": self._log}

    def _write(self, carry: Carry) -> None:
        t, *before = self._began
        now = (int(carry.accepted), int(carry.rejected), int(carry.evaluations))
        self._began = (float(carry.t), *now)
        accepted, rejected, evaluations = (b - a for a, b in zip(before, now, strict=True))
        self._log.append(
            {
                "solver": self._names[0],
                "from": t,
                "to": float(carry.t),
                "accepted": accepted,
                "rejected": rejected,
                "gradient_evaluations": evaluations,
            }
        )
