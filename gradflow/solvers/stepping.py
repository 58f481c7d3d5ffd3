"""The compiled loop: steps of a diffrax solver, with everything that is watched on the way.

`diffrax.diffeqsolve` takes the same solvers and controllers, and the tests hold this loop against
it. It is not used because a run here can be cut anywhere: the loop stops after any number of
attempted steps and goes on from there, so the steps it takes do not depend on how often it
reports, and what a refused step cost is counted before the solver's state is rolled back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._linalg import tree_norm, tree_select

RUNNING, END_TIME, GRADIENT_NORM, LOSS, STEP_LIMIT, STEP_UNDERFLOW, NOT_FINITE = range(7)

PROBES = 4  # points of each step at which events are looked at, its end among them
HALVINGS = 30  # of a probe's interval: far below the error of the trajectory
MAX_CROSSINGS = 64  # of each event; the latest are kept
_MAX_REFUSALS = 50  # in a row, each at least halving the step: a wall, not an obstacle


class Stepper(eqx.Module):
    """What is integrated and what is watched.

    Attributes:
        term: the vector field as a diffrax term.
        solver: any diffrax solver.
        controller: any diffrax step size controller.
        step_evaluations: gradient evaluations in one attempted step.
        measured: selects the part of the slope that stands for the gradient.
        recorders: for each set of save times a function ``(t, state, slope, data)`` that
            returns a pytree of arrays.
        watch: ``(t, state, slope, data)`` to the values of all events, shape ``(E,)``.
        loss: ``(state, data)`` to the loss; ``None`` unless a stop rule needs it.
        check_slope: whether a stop rule needs the norm of the slope.
    """

    term: diffrax.ODETerm
    solver: diffrax.AbstractSolver
    controller: diffrax.AbstractStepSizeController
    step_evaluations: int = eqx.field(static=True)
    measured: Callable = eqx.field(static=True)
    recorders: tuple[Callable, ...]
    watch: Callable | None
    loss: Callable | None
    check_slope: bool = eqx.field(static=True)


class Limits(eqx.Module):
    """Where a run ends; traced, so that no value of them compiles anything again.

    Attributes:
        t1: end time.
        max_steps: attempted steps in the whole run.
        gradient_norm: stop at or below, if the stepper checks it.
        loss: stop at or below, if the stepper checks it.
    """

    t1: Float[Array, ""]
    max_steps: Int[Array, ""]
    gradient_norm: Float[Array, ""]
    loss: Float[Array, ""]


class Records(eqx.Module):
    """One set of save times: how many rows are filled, their times, and the rows."""

    filled: Int[Array, ""]
    times: Float[Array, " n"]
    values: PyTree[Array]


class Crossings(eqx.Module):
    """Zero crossings of the events: how many so far, and the latest as (time, direction)."""

    counts: Int[Array, " E"]
    rows: Float[Array, "E MAX_CROSSINGS 2"]
    last: Float[Array, " E"]


class Carry(eqx.Module):
    """Everything that a run goes on from."""

    t: Float[Array, ""]
    t_next: Float[Array, ""]
    state: PyTree
    solver_state: PyTree
    controller_state: PyTree
    records: tuple[Records, ...]
    crossings: Crossings | None
    accepted: Int[Array, ""]
    rejected: Int[Array, ""]
    refusals: Int[Array, ""]
    evaluations: Int[Array, ""]
    outcome: Int[Array, ""]
    first_slope: Float[Array, ""]


class _Known(eqx.Module):
    """A vector field whose value at the start is known: it is not evaluated there again."""

    field: Callable
    state: PyTree
    slope: PyTree

    def __call__(self, t, state, data):
        return self.slope if state is self.state else self.field(t, state, data)


# Run once: the time it takes is the time it takes to compile.
@eqx.filter_jit(  # pyright: ignore[reportCallIssue]
    compiler_options={"xla_backend_optimization_level": 0}
)
def start(
    stepper: Stepper, state: PyTree, save_times: tuple[Array, ...], t1: Array, data: PyTree
) -> Carry:
    """The carry at t = 0; chooses the first step, with two evaluations of the field.

    The run has ended already where the slope is not finite.
    """
    t0 = jnp.zeros_like(t1)
    # Fresh buffers: the carry is donated later, and these must not be the caller's own.
    state = jax.tree.map(jnp.copy, state)
    slope = stepper.term.vf(t0, state, data)
    term = diffrax.ODETerm(_Known(stepper.term.vector_field, state, slope))
    t_next, controller_state = stepper.controller.init(
        term, t0, t1, state, None, data, stepper.solver.func, _error_order(stepper)
    )
    t_next = jnp.minimum(t_next, t1)
    records = tuple(
        Records(
            jnp.zeros((), jnp.int32),
            jnp.full(times.shape, jnp.nan, t1.dtype),
            jax.tree.map(
                lambda x, n=times.size: jnp.full((n, *x.shape), jnp.nan, x.dtype),
                eqx.filter_eval_shape(recorder, t0, state, slope, data),
            ),
        )
        for recorder, times in zip(stepper.recorders, save_times, strict=True)
    )
    crossings = None
    if stepper.watch is not None:
        values = stepper.watch(t0, state, slope, data)
        crossings = Crossings(
            jnp.zeros(values.shape, jnp.int32),
            jnp.zeros((*values.shape, MAX_CROSSINGS, 2), t1.dtype),
            values,
        )
    zero = jnp.zeros((), jnp.int32)
    first_slope = tree_norm(stepper.measured(slope))
    return Carry(
        t=t0,
        t_next=t_next,
        state=state,
        solver_state=stepper.solver.init(term, t0, t_next, state, data),
        controller_state=controller_state,
        records=records,
        crossings=crossings,
        accepted=zero,
        rejected=zero,
        refusals=zero,
        evaluations=jnp.asarray(2, jnp.int32),
        outcome=jnp.where(jnp.isfinite(tree_norm(slope)), RUNNING, NOT_FINITE).astype(jnp.int32),
        first_slope=first_slope,
    )


@eqx.filter_jit(donate="all-except-first")
def advance(kept: tuple[Stepper, tuple[Array, ...], Limits, PyTree, Array], carry: Carry) -> Carry:
    """Attempt up to `attempts` further steps.

    Args:
        kept: the stepper, the save times, the limits, the data, and `attempts`.
        carry: where to go on from; its buffers are reused.
    """
    stepper, save_times, limits, data, attempts = kept
    first = carry.accepted + carry.rejected
    dynamic, static = eqx.partition(carry, eqx.is_array)

    def going(dynamic):
        carry = eqx.combine(dynamic, static)
        tried = carry.accepted + carry.rejected
        return (carry.outcome == RUNNING) & (tried - first < attempts)

    def body(dynamic):
        carry = _attempt(stepper, save_times, limits, data, eqx.combine(dynamic, static))
        return eqx.filter(carry, eqx.is_array)

    return eqx.combine(jax.lax.while_loop(going, body, dynamic), static)


@eqx.filter_jit(donate="all-except-first")
def close(stepper: Stepper, carry: Carry, data: PyTree) -> Carry:
    """Record the end of a run that was cut short; one more evaluation of the field."""
    slope = stepper.term.vf(carry.t, carry.state, data)

    def append(recorder, records: Records) -> Records:
        row = records.filled
        values = recorder(carry.t, carry.state, slope, data)
        last = records.times[jnp.maximum(row - 1, 0)]
        wanted = (row < records.times.size) & ~(last >= carry.t)
        more = Records(
            row + 1,
            records.times.at[row].set(carry.t),
            jax.tree.map(lambda rows, v: rows.at[row].set(v), records.values, values),
        )
        return tree_select(wanted, more, records)

    records = tuple(map(append, stepper.recorders, carry.records))
    evaluations = carry.evaluations + min(stepper.step_evaluations, 1)
    return eqx.tree_at(lambda c: (c.records, c.evaluations), carry, (records, evaluations))


def _attempt(
    stepper: Stepper, save_times: tuple[Array, ...], limits: Limits, data: PyTree, carry: Carry
) -> Carry:
    state, error, dense, solver_state, result = stepper.solver.step(
        stepper.term, carry.t, carry.t_next, carry.state, data, carry.solver_state, False
    )
    # An implicit step whose equations were not solved is refused like any other bad step.
    failed = result != diffrax.RESULTS.successful
    error = jax.tree.map(lambda e: jnp.where(failed, jnp.inf, e), error)
    keep, t, t_next, _, controller_state, _ = stepper.controller.adapt_step_size(
        carry.t,
        carry.t_next,
        carry.state,
        state,
        data,
        error,
        _error_order(stepper),
        carry.controller_state,
    )
    keep, t = jnp.asarray(keep), jnp.asarray(t)
    interpolation = stepper.solver.interpolation_cls(t0=carry.t, t1=carry.t_next, **dense)

    def at(time):
        return interpolation.evaluate(time), interpolation.derivative(time)

    accepted = carry.accepted + keep.astype(jnp.int32)
    rejected = carry.rejected + (~keep).astype(jnp.int32)
    refusals = jnp.where(keep, 0, carry.refusals + 1)
    outcome = _outcome(stepper, limits, data, keep, t, t_next, accepted + rejected, refusals, at)
    records = tuple(
        _record(recorder, times, records, t, keep & (outcome != RUNNING), at, data)
        for recorder, times, records in zip(
            stepper.recorders, save_times, carry.records, strict=True
        )
    )
    crossings = _watch(stepper.watch, carry, keep, at, data)
    # Always true, but not to the compiler: only when all has been read off the step is its start
    # overwritten, in place. Otherwise it makes copies of the state to be safe.
    done = [r.filled >= 0 for r in records]
    if crossings is not None:
        done.append(jnp.all(crossings.counts >= 0))
    replace = functools.reduce(jnp.logical_and, done, keep)
    return Carry(
        t=t,
        t_next=jnp.minimum(t_next, limits.t1),
        state=tree_select(replace, state, carry.state),
        solver_state=tree_select(replace, solver_state, carry.solver_state),
        controller_state=controller_state,
        records=records,
        crossings=crossings,
        accepted=accepted,
        rejected=rejected,
        refusals=refusals,
        evaluations=carry.evaluations + stepper.step_evaluations,
        outcome=outcome,
        first_slope=carry.first_slope,
    )


def _error_order(stepper: Stepper) -> Any:
    return stepper.solver.error_order(stepper.term)


def _outcome(stepper, limits, data, keep, t, t_next, tried, refusals, at) -> Int[Array, ""]:
    """Why the run ends here, or RUNNING."""
    small = low = jnp.asarray(False)
    if stepper.check_slope:
        small = tree_norm(stepper.measured(at(t)[1])) <= limits.gradient_norm
    if stepper.loss is not None:
        low = stepper.loss(at(t)[0], data) <= limits.loss
    stuck = (t_next - t <= 4 * jnp.finfo(t.dtype).eps * t) | (refusals > _MAX_REFUSALS)
    # The first that holds counts; where a run meets its goal in its very last step, the goal.
    return jnp.select(
        [keep & small, keep & low, keep & (t >= limits.t1), tried >= limits.max_steps, stuck],
        [GRADIENT_NORM, LOSS, END_TIME, STEP_LIMIT, STEP_UNDERFLOW],
        RUNNING,
    ).astype(jnp.int32)


def _record(recorder, save_times, records: Records, t, ends, at, data) -> Records:
    """Fill the rows of the save times passed; where the run ends early, one more for the end."""
    n = save_times.size

    def target(records: Records) -> tuple[Bool[Array, ""], Array]:
        row = jnp.minimum(records.filled, n - 1)
        due = save_times[row] <= t
        previous = records.times[jnp.maximum(records.filled - 1, 0)]
        last = ends & ~due & ~(previous >= t)
        return (records.filled < n) & (due | last), jnp.where(due, save_times[row], t)

    def fill(records: Records) -> Records:
        _, time = target(records)
        row = records.filled
        values = recorder(time, *at(time), data)
        return Records(
            row + 1,
            records.times.at[row].set(time),
            jax.tree.map(lambda rows, v: rows.at[row].set(v), records.values, values),
        )

    return jax.lax.while_loop(lambda r: target(r)[0], fill, records)


class _Search(eqx.Module):
    """Where the search for crossings in one step is.

    Probe by probe; where an event has changed sign since the last one it is `pending`, and the
    interval between the two is halved for each of them in turn.
    """

    crossings: Crossings
    probe: Int[Array, ""]
    before: Float[Array, " E"]
    pending: Bool[Array, " E"]
    halvings: Int[Array, ""]
    left: Float[Array, ""]
    right: Float[Array, ""]


def _watch(watch, carry: Carry, keep, at, data) -> Crossings | None:
    """Locate the sign changes of every event in the step just taken, by bisection.

    One loop for probes and halvings, so that the events are compiled only once.
    """
    if watch is None or carry.crossings is None:
        return None
    h = (carry.t_next - carry.t) / PROBES

    def unfinished(search: _Search) -> Bool[Array, ""]:
        return (search.probe < PROBES) | jnp.any(search.pending)

    def look(search: _Search) -> _Search:
        halving = jnp.any(search.pending)
        middle = search.left + (search.right - search.left) / 2
        time = jnp.where(halving, middle, carry.t + (search.probe + 1).astype(h.dtype) * h)
        values = watch(time, *at(time), data)
        return tree_select(halving, halve(search, time, values), step(search, time, values))

    def step(search: _Search, time, values) -> _Search:
        before = search.crossings.last
        return _Search(
            crossings=eqx.tree_at(lambda c: c.last, search.crossings, values),
            probe=search.probe + 1,
            before=before,
            pending=jnp.sign(values) != jnp.sign(before),
            halvings=jnp.zeros_like(search.halvings),
            left=time - h,
            right=time,
        )

    def halve(search: _Search, time, values) -> _Search:
        event = jnp.argmax(search.pending)
        unchanged = jnp.sign(values[event]) == jnp.sign(search.before[event])
        left = jnp.where(unchanged, time, search.left)
        right = jnp.where(unchanged, search.right, time)
        found = search.halvings + 1 == HALVINGS
        crossings = tree_select(found, _note(search.crossings, event, right), search.crossings)
        end = carry.t + search.probe.astype(h.dtype) * h
        return _Search(
            crossings=crossings,
            probe=search.probe,
            before=search.before,
            pending=search.pending.at[event].set(~found),
            halvings=jnp.where(found, 0, search.halvings + 1),
            left=jnp.where(found, end - h, left),
            right=jnp.where(found, end, right),
        )

    # A refused step has nothing to look at.
    begin = jnp.where(keep, 0, PROBES).astype(jnp.int32)
    last = carry.crossings.last
    idle = jnp.zeros_like(last, dtype=bool)
    search = _Search(carry.crossings, begin, last, idle, jnp.zeros_like(begin), h, h)
    return jax.lax.while_loop(unfinished, look, search).crossings


def _note(crossings: Crossings, event, time) -> Crossings:
    """One more crossing; the oldest gives way where there are too many."""
    row = jnp.stack([time, jnp.sign(crossings.last[event]).astype(time.dtype)])
    slot = crossings.counts[event] % MAX_CROSSINGS
    return Crossings(
        crossings.counts.at[event].add(1), crossings.rows.at[event, slot].set(row), crossings.last
    )
