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
    StabilisedRungeKutta,
    build,
    stepping,
)
from ..solvers.stepping import Stepper
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


def plan(
    problem: Problem,
    spec: FlowSpec,
    solver: str | diffrax.AbstractSolver,
    observables: tuple[Observable, ...],
) -> Plan:
    """What `solve` was told, made ready for the compiled loop.

    Raises:
        ValueError: no such solver, or save times for an observable that there is not.
        TypeError: the problem has no loss where one is needed.
    """
    if problem.has_loss:
        field = FIELDS[spec.field](problem.bare())
    elif spec.stop.loss is None:
        field = OwnField(problem.bare())
    else:
        raise TypeError("stop.loss needs a loss, and this problem is a vector field")

    choices = build(solver, spec.rtol, field.measured)
    counter = None
    vector_field: Any = field
    if not all(stepping.counts(choice.solver) for choice in choices):
        counter = Counter()
        vector_field = CountedField(field, counter)

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
        tuple(map(tuple, groups)),
        axes,
        field,
        counter,
    )


class _StateLoss(eqx.Module):
    """The loss of a state, for the stop rule."""

    problem: Problem
    field: GradientFlow | OwnField

    def __call__(self, state: PyTree, data: PyTree) -> Array:
        return self.problem.loss(self.field.split(state)[0], data)
