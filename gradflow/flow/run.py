"""`solve`: integrate a problem's flow to a tolerance and record it on the way."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import diffrax
import jax
import numpy as np
from jaxtyping import Array
from pydantic import ValidationError

from ..analysis import energy_residual
from ..invariants import automatic
from ..observables import Observable, as_variables, recorded
from ..problem import Problem
from ..save_times import SaveTimes
from ..solvers import stepping
from ..solvers.stepping import Carry
from ..solvers.watching import MAX_CROSSINGS
from ..spectra import Spectrum
from ..trajectory import Trajectory, Variable
from .legs import Legs
from .plan import Plan, plan
from .spec import NEVER, SAVE, FlowSpec, Stop, check_tolerance

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


@dataclass(frozen=True)
class Progress:
    """How far a run is: what `solve` reports after every chunk of steps.

    Attributes:
        time: the time reached.
        t1: the end time.
        fraction: the share of the save times that lie behind; steady where these are spaced as
            the work is, as a logarithmic grid is for a flow that slows down.
        loss: the loss when it was last recorded.
        step: the next step's size.
        accepted: steps so far.
        rejected: steps refused so far.
        gradient_evaluations: so far.
    """

    time: float
    t1: float
    fraction: float
    loss: float | None
    step: float
    accepted: int
    rejected: int
    gradient_evaluations: int


def solve(
    problem: Problem,
    *,
    t1: float,
    rtol: float = 1e-4,
    solver: str | diffrax.AbstractSolver = "auto",
    field: str = "gradient",
    observables: Sequence[Observable] | Mapping[str, Callable[[Any, Any, Any], Array]] = (),
    save: SaveTimes = SAVE,
    save_each: Mapping[str, SaveTimes] | None = None,
    spectrum: Spectrum | None = None,
    stop: Stop = NEVER,
    max_steps: int = 100_000,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Trajectory:
    """Integrate d params/dt = -grad L, or any other field, from t = 0 to `t1`.

    The run is compiled once for its shapes; values of `t1`, `rtol`, `stop`, the save times and
    the data may change without compiling again. Where it is cut into chunks for `progress` does
    not change a single step.

    Args:
        problem: the loss or vector field, where it starts and what it sees.
        t1: end time. Gradient descent with learning rate eta is at t = eta * step.
        rtol: bounds the error of the trajectory, |params(t) - exact|_2 relative to the distance
            |exact - params(0)|_2 travelled.
        solver: ``"auto"``, a name in `gradflow.solvers.SOLVERS`, or any `diffrax.AbstractSolver`
            with an error estimate. ``"auto"`` begins with an explicit method, chosen by the
            tolerance, and changes to a stabilised one where the flow is stiff, and back;
            ``stats["legs"]`` says which ran from when to when.
        field: a name in `gradflow.fields.FIELDS`; a problem given as a vector field follows that.
        observables: recorded beside the loss, the gradient norm, the distance travelled, the
            energy dissipated, the problem's own and, where the model has layers that the flow
            keeps in balance, `gradflow.invariants.balancedness`: `Observable` objects, or
            functions ``(t, params, data)`` by name.
        save: when to record: `Linear`, `Logarithmic` or `Explicit`.
        save_each: other save times for single observables, by name.
        spectrum: what to record of the Hessian, in one word; `gradflow.spectra` has the
            observables one by one.
        stop: when to end before `t1`.
        max_steps: attempted steps after which the run counts as failed.
        progress: called now and then with how far the run is.
        cancelled: called now and then; the run ends when it returns true.

    Returns:
        The trajectory up to the end, whatever ended it: ``result`` is a key of `RESULTS`, and a
        failure of the numerics one of `FAILURES`.

    Raises:
        ValueError: an argument is out of range, or `rtol` is below what the dtype can hold.
        TypeError: the problem has no loss where one is needed.
    """
    spec = _check(
        t1=t1, rtol=rtol, solver=solver, field=field, save=save,
        save_each=dict(save_each or {}), spectrum=spectrum, stop=stop, max_steps=max_steps,
    )  # fmt: skip
    check_tolerance(rtol, problem.dtype)
    asked = spectrum.build(problem) if spectrum is not None else ()
    every = recorded(problem, observables, asked, automatic(problem))
    planned = plan(problem, spec, solver, every)
    # Full precision in matrix products, which accelerators otherwise round to fewer digits
    # than any tolerance asks for.
    with jax.default_matmul_precision("highest"):
        return _run(problem, spec, planned, progress, cancelled)


def _check(**fields: Any) -> FlowSpec:
    """The arguments as a spec; a solver object passes in place of its name."""
    if isinstance(fields["solver"], diffrax.AbstractSolver):
        fields["solver"] = "auto"
    try:
        return FlowSpec(**fields)
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, fault['loc']))} = {fault['input']!r}: {fault['msg']}"
            for fault in error.errors()
        )
        raise ValueError("; ".join(faults)) from None


def _run(
    problem: Problem,
    spec: FlowSpec,
    plan: Plan,
    progress: Callable[[Progress], None] | None,
    cancelled: Callable[[], bool] | None,
) -> Trajectory:
    stop = spec.stop
    began = clock.perf_counter()
    legs = Legs(plan, problem, spec)
    carry = legs.start()
    compile_seconds = clock.perf_counter() - began
    wall_seconds, attempts = 0.0, 8
    result = None
    while result is None:
        before = clock.perf_counter()
        if int(carry.outcome) == stepping.SWITCH:
            carry = legs.change(carry)
            compile_seconds += clock.perf_counter() - before
            before = clock.perf_counter()
        carry = legs.advance(carry, attempts)
        passed = clock.perf_counter() - before
        wall_seconds += passed
        if progress is not None:
            progress(_progress(carry, spec.t1, plan))
        result = _OUTCOMES.get(int(carry.outcome))
        if result is not None:
            break
        if stop.wall_seconds is not None and wall_seconds >= stop.wall_seconds:
            result = "wall_time"
        elif cancelled is not None and cancelled():
            result = "cancelled"
        attempts = int(np.clip(attempts * _CHUNK_SECONDS / passed, 1, min(4 * attempts, _MOST)))
    if result not in _RECORDED_TO_THE_END:
        carry = legs.close(carry)
    stats = {
        "gradient_evaluations": plan.evaluations(carry),
        "accepted": int(carry.accepted),
        "rejected": int(carry.rejected),
        **legs.report(carry),
        "wall_seconds": wall_seconds,
        "compile_seconds": compile_seconds,
    }
    return _trajectory(problem, plan, carry, result, stats)


def _progress(carry: Carry, t1: float, plan: Plan) -> Progress:
    loss = None
    for group, records in zip(plan.groups, carry.records, strict=True):
        for observable, values in zip(group, records.values, strict=True):
            if observable.name == "loss" and int(records.filled) > 0:
                loss = float(np.asarray(values)[int(records.filled) - 1])
    return Progress(
        time=float(carry.t),
        t1=t1,
        fraction=int(carry.records[0].filled) / plan.save_times[0].size,
        loss=loss,
        step=float(carry.t_next - carry.t),
        accepted=int(carry.accepted),
        rejected=int(carry.rejected),
        gradient_evaluations=plan.evaluations(carry),
    )


def _trajectory(
    problem: Problem, plan: Plan, carry: Carry, result: str, stats: dict[str, Any]
) -> Trajectory:
    variables: dict[str, Variable] = {}
    coords: dict[str, np.ndarray] = {}
    spent: dict[str, int] = {}
    every_record, watched = jax.device_get((carry.records, carry.crossings))
    for group, axis, records in zip(plan.groups, plan.axes, every_record, strict=True):
        n = int(records.filled)
        coords[axis] = np.asarray(records.times[:n], dtype=np.float64)
        found, labels = as_variables(
            group, jax.tree.map(lambda r, n=n: r[:n], records.values), axis
        )
        variables |= found
        coords |= labels
        for cost in (o.cost(problem) for o in group if o.cost is not None):
            spent["observable_evaluations"] = spent.get("observable_evaluations", 0) + n * cost
    if "dissipated" in variables:
        loss, dissipated = variables["loss"], variables["dissipated"]
        times = coords[loss.dims[0]]
        if loss.dims == dissipated.dims and times.size and times[0] == 0:
            variables["energy_residual"] = Variable(
                energy_residual(loss.values, dissipated.values), loss.dims, "energy residual"
            )
    crossings, event_values = {}, {}
    if watched is not None:
        for i, event in enumerate(problem.events):
            kept = min(int(watched.counts[i]), MAX_CROSSINGS)
            rows = np.asarray(watched.rows[i, :kept], dtype=np.float64)
            crossings[event.name] = rows[np.argsort(rows[:, 0], kind="stable")]
            event_values[event.name] = float(watched.last[i])
    return Trajectory(
        variables=variables,
        coords=coords,
        final_time=float(carry.t),
        final_params=problem.model(plan.field.split(carry.state)[0]),
        crossings=crossings,
        event_values=event_values,
        stats=stats | spent,
        result=result,
    )
