"""A run as the compiled loop takes it: solvers, save times and what is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from .._linalg import tree_norm
from ..fields import GRADIENT, AbstractField, GradientFlow, OwnField
from ..invariants import automatic
from ..observables import ENERGY, GRAD_NORM, Event, Observable, Observables, recorded
from ..problem import Problem
from ..recording import Group, Recorder, StackedRecorder, grouped
from ..solvers import (
    Choice,
    CountedField,
    Counter,
    DistanceController,
    NewtonKrylov,
    StabilisedRungeKutta,
    build,
    stepping,
)
from ..solvers.stepping import Carry, Stepper
from .spec import FlowSpec


def array(value: Any, dtype: Any) -> Array:
    """`value` on the device."""
    # A transfer, not a computation: `jnp.asarray` would compile one for every new shape.
    return jax.device_put(np.asarray(value, dtype))


class Plan(eqx.Module):
    """A run as the compiled loop takes it.

    Attributes:
        steppers: one, or the two between which the run changes, by the name of their solver.
        save_times: each set of them, ascending.
        groups: what is recorded at each set.
        field: what is followed.
        counter: counts evaluations where the solver does not.
    """

    steppers: dict[str, Stepper]
    save_times: tuple[Array, ...]
    groups: tuple[Group, ...] = eqx.field(static=True)
    field: AbstractField
    counter: Counter | None = eqx.field(static=True)

    def evaluations(self, carry: Carry) -> int:
        """Gradient evaluations spent so far."""
        return self.spent(int(carry.evaluations))

    def spent(self, counted: int) -> int:
        """The same, of which the carry has counted so many."""
        if self.counter is not None:  # counts evaluations of the field
            counted = self.field.cost * self.counter.read()
        return counted + self.field.init_cost

    def row_evaluations(self, filled: Sequence[int]) -> int:
        """Gradient evaluations that the rows took, of which each set of save times has `filled`.

        Without those of the observables that have a cost of their own.
        """
        looking = (GRAD_NORM, ENERGY)
        rows = (
            n
            for group, n in zip(self.groups, filled, strict=True)
            if any(o in looking for o in group.observables)
        )
        return self.field.gradient_cost * sum(rows)


def observed(
    problem: Problem,
    spec: FlowSpec,
    extra: Observables,
    unasked: tuple[Observable, ...] = (),
) -> tuple[Observable, ...]:
    """All that a run records; see `gradflow.observables.recorded`."""
    asked = spec.spectrum.build(problem) if spec.spectrum is not None else ()
    energy = (ENERGY,) if spec.field != GRADIENT else ()
    return recorded(problem, extra, (*energy, *asked), (*unasked, *automatic(problem)))


def plan(
    problem: Problem,
    spec: FlowSpec,
    solver: str | diffrax.AbstractSolver,
    observables: tuple[Observable, ...],
    keep_step: bool = False,
) -> Plan:
    """What `solve` was told, made ready for the compiled loop.

    Args:
        problem: what is solved.
        spec: how, and when it is recorded.
        solver: in place of the one that the spec can only name.
        observables: what is recorded.
        keep_step: whether the state is to be read off the steps from outside.

    Raises:
        ValueError: no such solver, or none for this field, or save times for an observable that
            there is not.
        TypeError: the problem has no loss where one is needed.
    """
    field = field_of(problem, spec)

    choices = build(solver, spec.rtol, field.measured)
    if isinstance(solver, str) and not field.symmetric:
        for choice in choices:
            if isinstance(choice.solver, NewtonKrylov):
                raise ValueError(
                    f"solver {solver!r} solves with conjugate gradients, for which the Jacobian "
                    "must be symmetric, as it is where a field is a gradient, and this is a "
                    f"vector field; take {solver.removesuffix('-cg')!r}, or, if its Jacobian is "
                    f"symmetric all the same, NewtonKrylov(diffrax.Kvaerno3(), rtol={spec.rtol:g})"
                )
    counter = None
    vector_field: Any = field
    if not all(stepping.counts(choice.solver) for choice in choices):
        counter = Counter()
        vector_field = CountedField(field, counter)

    groups = grouped(spec.save, spec.save_each, observables)

    bare = problem.bare()

    def recorder(watched: Sequence[Observable] | Sequence[Event]) -> Recorder:
        readings = tuple(each.reading for each in watched)
        return Recorder(bare, field, problem.params, readings)

    recorders = tuple(recorder(group.observables) for group in groups)
    watch = StackedRecorder(recorder(problem.events)) if problem.events else None
    stop = spec.stop

    def stepper(choice: Choice) -> Stepper:
        return Stepper(
            term=diffrax.ODETerm(vector_field),
            solver=choice.solver,
            controller=DistanceController(
                array(spec.rtol, problem.dtype),
                problem.params,
                field.measured,
                extrapolates=not isinstance(choice.solver, StabilisedRungeKutta),
                position=field.params,
            ),
            recorders=recorders,
            watch=watch,
            loss=_StateLoss(bare, field) if stop.loss is not None else None,
            gradient_norm=_GradientNorm(field) if stop.needs_gradient else None,
            cost=field.cost,
            check_cost=field.gradient_cost,
            switch=choice.switch,
            keep_step=keep_step,
        )

    return Plan(
        {choice.name: stepper(choice) for choice in choices},
        tuple(array(group.save.build(spec.t1), problem.dtype) for group in groups),
        groups,
        field,
        counter,
    )


def field_of(problem: Problem, spec: FlowSpec) -> AbstractField:
    """The field that is followed.

    Raises:
        TypeError: the problem has no loss where one is needed.
    """
    if problem.has_loss:
        if spec.field == GRADIENT:
            return GradientFlow(problem.bare())
        return spec.field.build(problem)
    if spec.field != GRADIENT:
        raise TypeError(f"field {spec.field.kind} needs a loss, and this problem is a vector field")
    if spec.stop.loss is not None:
        raise TypeError("stop.loss needs a loss, and this problem is a vector field")
    return OwnField(problem.bare())


class _StateLoss(eqx.Module):
    """The loss of a state, for the stop rule."""

    problem: Problem
    field: AbstractField

    def __call__(self, state: PyTree, data: PyTree) -> Array:
        return self.problem.loss(self.field.params(state), data)


class _GradientNorm(eqx.Module):
    """The norm of the gradient, for the stop rules; of a field without a loss, of its slope."""

    field: AbstractField

    def __call__(self, state: PyTree, slope: PyTree, data: PyTree) -> Array:
        gradient = self.field.gradient(state, slope, data)
        return tree_norm(self.field.params(slope) if gradient is None else gradient)
