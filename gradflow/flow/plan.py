"""A run as the compiled loop takes it: solvers, save times and what is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from ..fields import FIELDS, GradientFlow, OwnField
from ..observables import Event, Observable, Recorder, StackedRecorder
from ..problem import Problem
from ..save_times import SaveTimes
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
from ..trajectory import TIME
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
        groups: the observables recorded at each set.
        axes: the name of each set's time axis.
        field: what is followed.
        counter: counts evaluations where the solver does not.
    """

    steppers: dict[str, Stepper]
    save_times: tuple[Array, ...]
    groups: tuple[tuple[Observable, ...], ...] = eqx.field(static=True)
    axes: tuple[str, ...] = eqx.field(static=True)
    field: Any
    counter: Counter | None = eqx.field(static=True)

    def evaluations(self, carry: Carry) -> int:
        """Gradient evaluations spent so far."""
        return int(carry.evaluations) if self.counter is None else self.counter.read()


def plan(
    problem: Problem,
    spec: FlowSpec,
    solver: str | diffrax.AbstractSolver,
    observables: tuple[Observable, ...],
) -> Plan:
    """What `solve` was told, made ready for the compiled loop.

    Raises:
        ValueError: no such solver, or none for this field, or save times for an observable that
            there is not.
        TypeError: the problem has no loss where one is needed.
    """
    if problem.has_loss:
        field = FIELDS[spec.field](problem.bare())
    elif spec.stop.loss is None:
        field = OwnField(problem.bare())
    else:
        raise TypeError("stop.loss needs a loss, and this problem is a vector field")

    choices = build(solver, spec.rtol, field.measured)
    if isinstance(solver, str) and not field.symmetric:
        for choice in choices:
            if isinstance(choice.solver, NewtonKrylov):
                raise ValueError(
                    f"solver {solver!r} solves with conjugate gradients, for which the Jacobian "
                    "must be symmetric, as it is where there is a loss, and this problem is a "
                    f"vector field; take {solver.removesuffix('-cg')!r}, or, if its Jacobian is "
                    f"symmetric all the same, NewtonKrylov(diffrax.Kvaerno3(), rtol={spec.rtol:g})"
                )
    counter = None
    vector_field: Any = field
    if not all(stepping.counts(choice.solver) for choice in choices):
        counter = Counter()
        vector_field = CountedField(field, counter)

    axes, times, groups = _grouped(spec, observables)

    def recorder(watched: Sequence[Observable] | Sequence[Event]) -> Recorder:
        readings = tuple(each.reading for each in watched)
        return Recorder(problem.bare(), field, problem.params, readings)

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
            ),
            measured=field.measured,
            recorders=tuple(map(recorder, groups)),
            watch=StackedRecorder(recorder(problem.events)) if problem.events else None,
            loss=_StateLoss(problem.bare(), field) if stop.loss is not None else None,
            check_slope=(stop.gradient_norm, stop.relative_gradient_norm) != (None, None),
            switch=choice.switch,
        )

    return Plan(
        {choice.name: stepper(choice) for choice in choices},
        tuple(array(t.build(spec.t1), problem.dtype) for t in times),
        groups,
        axes,
        field,
        counter,
    )


def _grouped(
    spec: FlowSpec, observables: tuple[Observable, ...]
) -> tuple[tuple[str, ...], tuple[SaveTimes, ...], tuple[tuple[Observable, ...], ...]]:
    """The observables by when they are recorded: each group's time axis, times and members."""
    each = dict.fromkeys(o.name for o in observables)
    for key in spec.save_each:
        if key not in each:
            raise ValueError(f"save_each: no observable {key!r}; there are {', '.join(each)}")
    # Observables of the same save times are recorded together; the run's own come first.
    together: dict[str, tuple[str, SaveTimes, list[Observable]]] = {
        spec.save.model_dump_json(): (TIME, spec.save, [])
    }
    for observable in observables:
        save = spec.save_each.get(observable.name) or observable.save or spec.save
        new = (f"{TIME}_{observable.name}", save, [])
        together.setdefault(save.model_dump_json(), new)[2].append(observable)
    axes, times, groups = zip(*together.values(), strict=True)
    return axes, times, tuple(map(tuple, groups))


class _StateLoss(eqx.Module):
    """The loss of a state, for the stop rule."""

    problem: Problem
    field: GradientFlow | OwnField

    def __call__(self, state: PyTree, data: PyTree) -> Array:
        return self.problem.loss(self.field.split(state)[0], data)
