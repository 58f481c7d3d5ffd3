"""The error of this very run, estimated.

A second flow, the shadow, runs in lockstep at a hundredth of the tolerance, always with `auto`,
which leaves explicit methods where these would miss theirs. `rtol` bounds the error of either to
a small factor: the worst that was measured of runs of `auto` lies between 0.03 and 10 times
`rtol`. So the shadow's own error is a small share of the run's, and the distance between the two
is the run's error to that share: of 104 runs on 16 problems, those of explicit methods that miss
their tolerance a hundredfold among them, the estimate lay within 3 % of the true error, that of
the loss within 8 % (``python -m benchmarks.certification``).

That is the worst error of a run. At single times, 1 in 100, the run happens to be as near to the
truth as its shadow, and the estimate is more than a factor 3 off.

Unlike an estimate made of the steps' own error estimates it does not rest on how errors grow from
step to step, which on a flat valley is the whole question: what a certificate says of a run holds
for its problem. It takes 1.1 to 8 times the gradients of the run, 2 in the median, and no
time that `stop` counts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .._devices import fetched
from .._linalg import Separation, separation
from ..observables import Observable
from ..problem import Problem
from ..progress import Watch
from ..trajectory import TIME, Trajectory, Variable
from .run import FlowRun
from .spec import FAILURES, NEVER, FlowSpec, check_tolerance, least_tolerance

_TIGHTER = 100
_OWN = ("error", "relative_error")


class Certificate:
    """What the shadow of a run tells of its error.

    Args:
        problem: what is solved.
        spec: of the run.
        observables: what the shadow records too, of what the run does.

    Raises:
        ValueError: the state's dtype cannot hold a tolerance that is enough tighter.
    """

    def __init__(self, problem: Problem, spec: FlowSpec, observables: tuple[Observable, ...]):
        check_tolerance(spec.rtol, problem.dtype, certify=True)
        rtol = max(spec.rtol / _TIGHTER, least_tolerance(problem.dtype))
        names = {name for o in observables for name in (o.name, *(p.name for p in o.variables))}
        for name in sorted(names):
            if name in _OWN or name.removesuffix("_error") in names - {name}:
                raise ValueError(
                    f"an observable is called {name!r}, as is an error that certify records; "
                    "rename it"
                )
        tighter = {
            "rtol": rtol,
            "stop": NEVER,
            "max_steps": 2**31 - 1,
            "certify": False,
            "save_each": {key: save for key, save in spec.save_each.items() if key in names},
        }
        self._origin = problem.params
        self._shadow = FlowRun(
            problem, spec.model_copy(update=tighter), "auto", observables, keep_step=True
        )
        self._rows: dict[float, Separation | None] = {}

    def state(self) -> dict[str, Any]:
        """All that `restore` goes on from, as `gradflow.storage` keeps it."""
        rows = {time: row for time, row in fetched(self._rows).items() if row is not None}
        return {
            "shadow": self._shadow.state(),
            "times": list(self._rows),
            "seen": list(rows),
            "rows": np.array([*rows.values()]).reshape(-1, len(Separation._fields)),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of the certificate of the same run."""
        self._shadow.restore(state["shadow"])
        rows = dict(zip(state["seen"], (Separation(*row) for row in state["rows"]), strict=True))
        self._rows = {time: rows.get(time) for time in state["times"]}

    def look(self, run: FlowRun, time: float, watch: Watch) -> None:
        """Hold the run against its shadow at `time`, which it has reached; times must ascend."""
        here, time = run.at(time), run.rounded(time)
        if here is None:
            return
        replace(watch, progress=None).reach(self._shadow, time)
        there = self._shadow.at(time)
        self._rows[time] = None if there is None else separation(here, there, self._origin)

    def attach(self, run: FlowRun, watch: Watch) -> Trajectory:
        """The trajectory of the run, now that it has ended, with its errors.

        Returns:
            The trajectory with variables `error`, |params - shadow's|, and `relative_error`, the
            same divided by the distance that the shadow has travelled, which is what `rtol`
            bounds; and beside each variable X an `X_error` of the same shape, its absolute error.
            In its `stats`, `error_estimate` is the largest relative error at any of these times
            and at the end, NaN if the shadow failed before that: its failure is the finding then.
            `certification_evaluations` is what the shadow took. Where that was cancelled so was
            the run, though it had come to its end itself.
        """
        end = run.time
        if end not in self._rows:  # ended between save times
            self.look(run, end, watch)
        trajectory = run.trajectory()
        if self._shadow.result == "cancelled":  # the run had ended, and what is known of it had not
            trajectory = replace(trajectory, result="cancelled")
        failed = self._shadow.result in FAILURES and self._shadow.time < end
        self._shadow.cut(min(end, self._shadow.time))
        shadow = self._shadow.trajectory()
        found = {time: row for time, row in fetched(self._rows).items() if row is not None}
        relative = {time: row.relative for time, row in found.items() if 0 < row.travelled < np.inf}
        here = trajectory.time.tolist()
        errors = {
            "error": Variable(
                np.array([found[time].distance if time in found else np.nan for time in here]),
                (TIME,),
                "error of the parameters",
            ),
            "relative_error": Variable(
                np.array([relative.get(time, np.nan) for time in here]),
                (TIME,),
                "error relative to the distance",
            ),
        }
        for name, variable in trajectory.variables.items():
            if name in shadow:
                errors[f"{name}_error"] = _difference(name, variable, trajectory, shadow)
        worst = max(map(float, relative.values()), default=np.nan)
        stats: dict[str, Any] = {
            "error_estimate": np.nan if failed else worst,
            "certification_evaluations": shadow.stats["gradient_evaluations"],
        }
        return trajectory.extended(errors, trajectory.stats | stats)


def _difference(name: str, variable: Variable, run: Trajectory, shadow: Trajectory) -> Variable:
    """Between the two at the times that both recorded; NaN at others."""
    _, mine, its = np.intersect1d(run.times(name), shadow.times(name), return_indices=True)
    values, there = variable.values, shadow[name]
    if not np.issubdtype(values.dtype, np.inexact):  # counts, or whether something holds
        values, there = values.astype(float), there.astype(float)
    difference = np.full(values.shape, np.nan, np.abs(values[:0]).dtype)
    difference[mine] = np.abs(values[mine] - there[its])
    label = f"error of {variable.label or name}"
    return Variable(difference, variable.dims, label, variable.units)
