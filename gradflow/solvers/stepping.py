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
from jaxtyping import Array, Float, Int, PyTree

from .._linalg import tree_norm, tree_select
from .compiling import LEAN, ONCE
from .stabilised import StabilisedRungeKutta
from .switching import Attempt, Memory, Relaxing, Stiffening
from .watching import MAX_CROSSINGS, Crossings, Records, empty, locate, record

RUNNING, END_TIME, GRADIENT_NORM, LOSS, STEP_LIMIT, STEP_UNDERFLOW, NOT_FINITE, SWITCH = range(8)

_MAX_REFUSALS = 50  # in a row, each at least halving the step: a wall, not an obstacle


class Stepper(eqx.Module):
    """What is integrated and what is watched.

    Attributes:
        term: the vector field as a diffrax term.
        solver: any diffrax solver.
        controller: any diffrax step size controller.
        recorders: for each set of save times a function ``(t, state, slope, data, memory)``
            that returns a pytree of arrays and the memory for its next row; its method
            ``begin(t, state, slope, data)`` returns the first.
        watch: ``(t, state, slope, data)`` to the values of all events, shape ``(E,)``.
        loss: ``(state, data)`` to the loss; ``None`` unless a stop rule needs it.
        gradient_norm: ``(state, slope, data)`` to the norm of the gradient; ``None`` unless a
            stop rule needs it.
        cost: gradient evaluations in one evaluation of the vector field.
        check_cost: and in one of `gradient_norm`.
        switch: says when another solver should go on; ``None`` to stay with this one.
        keep_step: whether the carry holds the last accepted step, to be read off from outside.
    """

    term: diffrax.ODETerm
    solver: diffrax.AbstractSolver
    controller: diffrax.AbstractStepSizeController
    recorders: tuple[Callable, ...]
    watch: Callable | None
    loss: Callable | None
    gradient_norm: Callable | None
    cost: int = eqx.field(static=True, default=1)
    check_cost: int = eqx.field(static=True, default=0)
    switch: Stiffening | Relaxing | None = None
    keep_step: bool = eqx.field(static=True, default=False)


class Limits(eqx.Module):
    """Where a run ends; traced, so that no value of them compiles anything again.

    Attributes:
        t1: end time.
        max_steps: attempted steps in the whole run.
        gradient_norm: stop at or below, if the stepper checks it.
        loss: stop at or below, if the stepper checks it.
        patience: attempts of an explicit solver before it is asked whether to leave it.
        pause: return once a step has reached this time; the run goes on from there unchanged.
    """

    t1: Float[Array, ""]
    max_steps: Int[Array, ""]
    gradient_norm: Float[Array, ""]
    loss: Float[Array, ""]
    patience: Int[Array, ""]
    pause: Float[Array, ""]


# What a run is advanced with, all that stays as it is: the stepper, the save times, the limits and
# the data.
Kept = tuple[Stepper, tuple[Array, ...], Limits, PyTree]


class Step(eqx.Module):
    """An accepted step, with what its solver's dense output is made of."""

    t0: Float[Array, ""]
    t1: Float[Array, ""]
    dense: PyTree


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
    first_gradient: Float[Array, ""]
    switching: Memory | None
    last: Step | None


class _Known(eqx.Module):
    """A vector field whose value at the start is known: it is not evaluated there again."""

    field: Callable
    state: PyTree
    slope: PyTree

    def __call__(self, t, state, data):
        return self.slope if state is self.state else self.field(t, state, data)


@eqx.filter_jit(compiler_options=ONCE)  # pyright: ignore[reportCallIssue]
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
        empty(recorder, times, t0, state, slope, data)
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
    first_gradient = jnp.full((), jnp.nan, t1.dtype)
    spent = 2 * stepper.cost
    if stepper.gradient_norm is not None:
        first_gradient = stepper.gradient_norm(state, slope, data)
        spent += stepper.check_cost
    solver_state = stepper.solver.init(term, t0, t_next, state, data)
    return Carry(
        t=t0,
        t_next=t_next,
        state=state,
        solver_state=solver_state,
        controller_state=controller_state,
        records=records,
        crossings=crossings,
        accepted=zero,
        rejected=zero,
        refusals=zero,
        evaluations=jnp.asarray(spent, jnp.int32),
        outcome=jnp.where(jnp.isfinite(tree_norm(slope)), RUNNING, NOT_FINITE).astype(jnp.int32),
        first_gradient=first_gradient,
        switching=stepper.switch.enter(state) if stepper.switch is not None else None,
        last=_no_step(stepper, t0, state, solver_state, data),
    )


@eqx.filter_jit(compiler_options=ONCE)  # pyright: ignore[reportCallIssue]
def hand_over(stepper: Stepper, carry: Carry, data: PyTree) -> Carry:
    """The carry with which the solver of `stepper` goes on; one evaluation of the field.

    What the other solver knew of the spectral radius goes along.
    """
    assert stepper.switch is not None
    assert carry.switching is not None
    solver: Any = stepper.solver
    controller: Any = stepper.controller
    solver_state = solver.init(stepper.term, carry.t, carry.t_next, carry.state, data)
    direction, t_next = carry.switching.direction, carry.t_next
    if isinstance(stepper.switch, Relaxing):
        solver_state = eqx.tree_at(lambda s: s.memory, solver_state, direction)
        # The stiff noise that an explicit method leaves at its stability limit must fade first.
        t_next = carry.t + 0.5 * (t_next - carry.t)
    else:
        direction = carry.solver_state.memory
        stable = 0.9 * stepper.switch.limit / carry.solver_state.radius
        t_next = jnp.minimum(t_next, carry.t + stable.astype(t_next.dtype))
    switching = stepper.switch.enter(carry.state, direction)
    return Carry(
        t=carry.t,
        t_next=t_next,
        state=carry.state,
        solver_state=solver_state,
        controller_state=controller.take_over(carry.controller_state),
        records=carry.records,
        crossings=carry.crossings,
        accepted=carry.accepted,
        rejected=carry.rejected,
        refusals=carry.refusals,
        evaluations=carry.evaluations + stepper.cost,
        outcome=jnp.zeros_like(carry.outcome),
        first_gradient=carry.first_gradient,
        switching=switching,
        last=_no_step(stepper, carry.t, carry.state, solver_state, data),
    )


@eqx.filter_jit(donate="all-except-first", compiler_options=LEAN)  # pyright: ignore[reportCallIssue]
def advance(kept: tuple[Kept, Array], carry: Carry) -> Carry:
    """Attempt up to `attempts` further steps.

    Args:
        kept: what stays as it is, and `attempts`.
        carry: where to go on from; its buffers are reused.
    """
    return go_on(*kept, carry)


def go_on(kept: Kept, attempts: Array, carry: Carry) -> Carry:
    """What `advance` compiles, of one run."""
    stepper, save_times, limits, data = kept
    first = carry.accepted + carry.rejected
    dynamic, static = eqx.partition(carry, eqx.is_array)

    def going(dynamic):
        carry = eqx.combine(dynamic, static)
        tried = carry.accepted + carry.rejected
        going = (carry.outcome == RUNNING) & (tried - first < attempts)
        return going & (carry.t < limits.pause)

    def body(dynamic):
        carry = _attempt(stepper, save_times, limits, data, eqx.combine(dynamic, static))
        return eqx.filter(carry, eqx.is_array)

    return eqx.combine(jax.lax.while_loop(going, body, dynamic), static)


@eqx.filter_jit(donate="all-except-first")
def close(kept: tuple[Stepper, PyTree], carry: Carry) -> Carry:
    """Record the end of a run that was cut short; one more evaluation of the field.

    Args:
        kept: the stepper and the data, which stay as they are.
        carry: where it ends; its buffers are reused.
    """
    stepper, data = kept
    slope = stepper.term.vf(carry.t, carry.state, data)

    def append(recorder, records: Records) -> Records:
        last = records.times[jnp.maximum(records.filled - 1, 0)]
        wanted = (records.filled < records.times.size) & ~(last >= carry.t)
        # Not computed where it is not wanted: a row may cost many evaluations.
        return jax.lax.cond(
            wanted,
            lambda: records.with_row(recorder, carry.t, carry.state, slope, data),
            lambda: records,
        )

    records = tuple(map(append, stepper.recorders, carry.records))
    # Where the host counts, a step counts none here, nor does this evaluation.
    spent = carry.evaluations + stepper.cost * int(counts(stepper.solver))
    return eqx.tree_at(lambda c: (c.records, c.evaluations), carry, (records, spent))


@eqx.filter_jit
def read_off(stepper: Stepper, step: Step, time: Array) -> PyTree:
    """The state at a time within `step`, which a solver of this stepper took."""
    return stepper.solver.interpolation_cls(t0=step.t0, t1=step.t1, **step.dense).evaluate(time)


def _no_step(stepper: Stepper, t, state: PyTree, solver_state: PyTree, data: PyTree) -> Step | None:
    """Room for the first step, where steps are kept."""
    if not stepper.keep_step:
        return None

    def dense():
        return stepper.solver.step(stepper.term, t, t, state, data, solver_state, False)[2]

    room = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), eqx.filter_eval_shape(dense))
    return Step(t, t, room)


def _attempt(
    stepper: Stepper, save_times: tuple[Array, ...], limits: Limits, data: PyTree, carry: Carry
) -> Carry:
    state, error, dense, solver_state, result = stepper.solver.step(
        stepper.term, carry.t, carry.t_next, carry.state, data, carry.solver_state, False
    )
    # What a refused step cost and taught is looked at before the solver's state is rolled back.
    spent = evaluations(stepper.solver, solver_state)
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

    leave, switching = jnp.asarray(False), carry.switching
    if stepper.switch is not None and switching is not None:
        tried = Attempt(stepper.term, t, t - carry.t, state, data, solver_state, keep)
        leave, switching, looked = stepper.switch.look(tried, switching, limits.patience)
        spent = spent + looked
    spent = stepper.cost * spent + stepper.check_cost * int(stepper.gradient_norm is not None)
    before = carry.solver_state
    if isinstance(stepper.solver, StabilisedRungeKutta):
        before = stepper.solver.refused(before, solver_state)
        t_next = jnp.minimum(t_next, t + stepper.solver.longest_step(solver_state).astype(t.dtype))
    accepted = carry.accepted + keep.astype(jnp.int32)
    rejected = carry.rejected + (~keep).astype(jnp.int32)
    refusals = jnp.where(keep, 0, carry.refusals + 1)
    outcome = _outcome(
        stepper, limits, data, keep, t, t_next, accepted + rejected, refusals, leave, at
    )
    ended = (outcome != RUNNING) & (outcome != SWITCH)
    records = tuple(
        record(recorder, times, records, t, keep & ended, at, data)
        for recorder, times, records in zip(
            stepper.recorders, save_times, carry.records, strict=True
        )
    )
    crossings = carry.crossings
    if crossings is not None:
        crossings = locate(stepper.watch, crossings, carry.t, carry.t_next, keep, at, data)
    # Always true, but not to the compiler: only when all has been read off the step is its start
    # overwritten, in place. Otherwise it makes copies of the state to be safe.
    done = [r.filled >= 0 for r in records]
    if crossings is not None:
        done.append(jnp.all(crossings.counts >= 0))
    replace = functools.reduce(jnp.logical_and, done, keep)
    last = carry.last
    if last is not None:
        last = tree_select(keep, Step(carry.t, carry.t_next, dense), last)
    return Carry(
        t=t,
        t_next=jnp.minimum(t_next, limits.t1),
        state=tree_select(replace, state, carry.state),
        solver_state=tree_select(replace, solver_state, before),
        controller_state=controller_state,
        records=records,
        crossings=crossings,
        accepted=accepted,
        rejected=rejected,
        refusals=refusals,
        evaluations=carry.evaluations + spent,
        outcome=outcome,
        first_gradient=carry.first_gradient,
        switching=switching,
        last=last,
    )


def counts(solver: diffrax.AbstractSolver) -> bool:
    """Whether a solver says how many evaluations of the vector field an attempted step took."""
    return hasattr(solver, "evaluations")


def evaluations(solver: Any, tried: PyTree) -> Int[Array, ""]:
    """Evaluations of the vector field in the attempted step that led to the state `tried`."""
    return solver.evaluations(tried) if counts(solver) else jnp.zeros((), jnp.int32)


def _error_order(stepper: Stepper) -> Any:
    return stepper.solver.error_order(stepper.term)


def _outcome(stepper, limits, data, keep, t, t_next, tried, refusals, leave, at) -> Int[Array, ""]:
    """Why the run ends here, or RUNNING."""
    small = low = jnp.asarray(False)
    if stepper.gradient_norm is not None:
        small = stepper.gradient_norm(*at(t), data) <= limits.gradient_norm
    if stepper.loss is not None:
        low = stepper.loss(at(t)[0], data) <= limits.loss
    stuck = (t_next - t <= 4 * jnp.finfo(t.dtype).eps * t) | (refusals > _MAX_REFUSALS)
    # The first that holds counts; where a run meets its goal in its very last step, the goal.
    return jnp.select(
        [
            keep & small,
            keep & low,
            keep & (t >= limits.t1),
            tried >= limits.max_steps,
            stuck,
            leave,
        ],
        [GRADIENT_NORM, LOSS, END_TIME, STEP_LIMIT, STEP_UNDERFLOW, SWITCH],
        RUNNING,
    ).astype(jnp.int32)
