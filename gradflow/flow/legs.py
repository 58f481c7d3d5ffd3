"""The legs of a run: one for each time that a solver took over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._devices import placed_like
from ..problem import Problem
from ..solvers import stepping
from ..solvers.stepping import Carry, Kept, Limits, Step, Stepper
from ..solvers.switching import Relaxing
from .plan import Plan, array
from .spec import FlowSpec

# Attempts of the explicit solver before the stabilised one is tried again after a leg in which
# it saved nothing; four times as many after each such leg.
_PATIENCE = 64


class Legs:
    """Runs the plan's solvers, one at a time, and keeps a log of which ran when.

    Args:
        plan: the run, as the compiled loop takes it.
        problem: what is solved.
        spec: where it ends.
    """

    def __init__(self, plan: Plan, problem: Problem, spec: FlowSpec):
        self._plan, self._problem, self._stop = plan, problem, spec.stop
        self._limits = Limits(
            t1=array(spec.t1, problem.dtype),
            max_steps=array(spec.max_steps, np.int32),
            gradient_norm=array(spec.stop.gradient_norm or -1.0, problem.dtype),
            loss=array(0.0 if spec.stop.loss is None else spec.stop.loss, problem.dtype),
            patience=array(0, np.int32),
            pause=array(np.inf, problem.dtype),
        )
        self._names = list(plan.steppers)
        self._log: list[dict[str, Any]] = []
        self._began = (0.0, 0, 0, 0)
        self._patience = 0

    @property
    def solver(self) -> str:
        """The name of the solver that runs."""
        return self._names[0]

    @property
    def kept(self) -> Kept:
        """What the compiled loop takes beside the carry, in this leg."""
        return self._stepper, self._plan.save_times, self._limits, self._problem.data

    @property
    def _stepper(self) -> Stepper:
        return self._plan.steppers[self.solver]

    def start(self) -> Carry:
        """The carry at t = 0."""
        plan, problem = self._plan, self._problem
        state = plan.field.init(problem.params, problem.data)
        carry = stepping.start(self._stepper, state, plan.save_times, self._limits.t1, problem.data)
        self.limit_gradient(carry)
        return self._placed(carry)

    def limit_gradient(self, carry: Carry) -> None:
        """The norm at which the run stops may be a share of that at the start."""
        share, limits = self._stop.relative_gradient_norm, self._limits
        if share is not None:
            least = max(share * float(carry.first_gradient), float(limits.gradient_norm))
            self._limits = replace(limits, gradient_norm=array(least, self._problem.dtype))

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from, beside the carry."""
        return {
            "solver": self.solver,
            "log": self._log,
            "began": self._began,
            "patience": self._patience,
        }

    def restore(self, state: dict[str, Any], carry: Carry) -> Carry:
        """Go on in the leg of a state.

        Args:
            state: of a run that was told the same.
            carry: of the first leg.

        Returns:
            A carry of the same form as that leg's.

        Raises:
            ValueError: there is no such solver.
        """
        if state["solver"] not in self._names:
            raise ValueError(f"the solver {state['solver']} is none of {', '.join(self._names)}")
        if state["solver"] != self.solver:
            self._names.reverse()
            carry = self._placed(stepping.hand_over(self._stepper, carry, self._problem.data))
        self._log = list(state["log"])
        t, accepted, rejected, evaluations = state["began"]
        self._began = (t, accepted, rejected, evaluations)
        self._be_patient(state["patience"])
        return carry

    def _be_patient(self, attempts: int) -> None:
        self._patience = attempts
        self._limits = replace(self._limits, patience=array(attempts, np.int32))

    def advance(self, carry: Carry, attempts: int, pause: float = np.inf) -> Carry:
        """Up to `attempts` further steps; with none of them, only the compilation.

        The last of them is the first that reaches the time `pause`, where there is one.
        """
        stepper, times, limits, data = self.kept
        limits = replace(limits, pause=array(pause, self._problem.dtype))
        kept = ((stepper, times, limits, data), array(attempts, np.int32))
        return jax.block_until_ready(stepping.advance(kept, carry))

    def read_off(self, step: Step, time: float) -> PyTree:
        """The state at `time`, within the last step of the solver that runs."""
        return stepping.read_off(self._stepper, step, array(time, self._problem.dtype))

    def change(self, carry: Carry) -> Carry:
        """The other solver takes over."""
        assert carry.switching is not None
        now, leg = self._leg(carry)
        self._began = now
        self._log.append(leg)
        if isinstance(self._stepper.switch, Relaxing):
            failed = float(carry.switching.saved) < 0
            self._be_patient(max(_PATIENCE, 4 * self._patience) if failed else 0)
        self._names.reverse()
        return self._placed(stepping.hand_over(self._stepper, carry, self._problem.data))

    def _placed(self, carry: Carry) -> Carry:
        """The carry that begins a leg, with what steps are made of where the parameters are."""
        made_of = (carry.state, carry.solver_state, carry.controller_state, carry.switching)
        parts = placed_like(self._problem.params, (*made_of, carry.last))
        names = ("state", "solver_state", "controller_state", "switching", "last")
        return replace(carry, **dict(zip(names, parts, strict=True)))

    def close(self, carry: Carry) -> Carry:
        """Record the end of a run that was cut short."""
        return stepping.close((self._stepper, self._problem.data), carry)

    def report(self, carry: Carry) -> dict[str, Any]:
        """Which solvers ran, and when: ``solver``, their names, and ``legs``."""
        legs = [*self._log, self._leg(carry)[1]]
        names = dict.fromkeys(leg["solver"] for leg in legs)
        return {"solver": " and ".join(names), "legs": legs}

    def _leg(self, carry: Carry) -> tuple[tuple[float, int, int, int], dict[str, Any]]:
        """Where the leg is, and what is said of it."""
        t, *before = self._began
        now = (int(carry.accepted), int(carry.rejected), self._plan.evaluations(carry))
        accepted, rejected, evaluations = (b - a for a, b in zip(before, now, strict=True))
        leg = {
            "solver": self.solver,
            "from": t,
            "to": float(carry.t),
            "accepted": accepted,
            "rejected": rejected,
            "gradient_evaluations": evaluations,
        }
        return (float(carry.t), *now), leg
