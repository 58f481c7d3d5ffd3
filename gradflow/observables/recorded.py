"""All that a run records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .._blame import place, trace
from ..problem import Problem
from ..trajectory import SEED, TIME
from .common import COMMON, DISTANCE
from .observable import Observable, Snapshot
from .plain import Function, PlainObservable, observable

Observables = Sequence[Observable | PlainObservable | Function] | Mapping[str, Function]


def recorded(
    problem: Problem,
    extra: Observables = (),
    asked: Sequence[Observable] = (),
    automatic: Sequence[Observable] = (),
) -> tuple[Observable, ...]:
    """All that a run of `problem` records: the common quantities, the problem's own, and others.

    Args:
        problem: what is solved.
        extra: observables, plain functions ``(t, params, data)`` among them, or such by name.
        asked: further observables.
        automatic: those that nobody asked for, each left out where its name, or that of an axis
            of its, is taken.

    Returns:
        The observables, every name once.

    Raises:
        ValueError: two observables of one name, an axis with two sets of labels, or an observable
            that this problem does not admit.
        TypeError: `extra` holds something else, or a function returns something else than arrays.
    """
    common = COMMON if problem.has_loss else (DISTANCE,)
    every = (
        *common,
        *_as_observables(problem.observables, problem),
        *_as_observables(extra, problem),
        *asked,
    )
    # What a run records by itself, or calls its axes.
    names = {"energy_residual", TIME, SEED}
    labels: dict[str, tuple[Any, ...]] = {}
    for each in every:
        parts = (part.name for part in each.variables)
        for name in dict.fromkeys((each.name, *parts)):
            if name in names:
                at = f" ({at})" if (at := place(getattr(each.function, "function", None))) else ""
                raise ValueError(f"two observables are called {name!r}; rename one{at}")
            names.add(name)
        for axis, given in (axis for part in each.variables for axis in part.axes):
            if labels.setdefault(axis, tuple(given)) != tuple(given):
                raise ValueError(
                    f"the axis {axis!r} of {each.name!r} has other labels than that of an "
                    "observable before; give it a name of its own, or the same labels"
                )
        if each.cost is not None:
            each.cost(problem)  # raises where it cannot be had
    axes = set().union(*map(_axis_names, every))
    for axis in axes:
        if axis in names or axis == SEED or axis.startswith(TIME):
            raise ValueError(
                f"no axis may be called {axis!r}, which is the name of "
                f"{'a variable' if axis in names else 'an axis of every run'}; rename it"
            )
    taken = names | axes
    free = (o for o in automatic if taken.isdisjoint({o.name, *_axis_names(o)}))
    return (*every, *free)


def check_events(problem: Problem) -> None:
    """Look at the events of a problem before it is run.

    Raises:
        TypeError: one is no real scalar.
    """

    def look(params: Any, data: Any, event: Any) -> Any:
        zero = jnp.zeros((), problem.dtype)
        gradient = params if problem.has_loss else None
        return event.function(
            Snapshot(problem.bare(), zero, params, params, params, data, zero, gradient, zero)
        )

    for event in problem.events:
        value = trace(
            event.function, jax.eval_shape, partial(look, event=event), problem.params, problem.data
        )
        if getattr(value, "shape", None) != ():
            at = f" ({at})" if (at := place(event.function)) else ""
            raise TypeError(f"event {event.name!r} must be a scalar, got {value}{at}")


def _as_observables(given: Any, problem: Problem) -> list[Observable]:
    """Observables as they are, and functions as what they are along runs of `problem`."""
    if callable(given):
        given = [given]
    if isinstance(given, Mapping):
        given = [_named(each, name) for name, each in given.items()]
    found = []
    for each in given:
        if isinstance(each, PlainObservable):
            found.append(each.of(problem))
        elif callable(each):
            function: Any = each
            found.append(observable(function).of(problem))
        elif isinstance(each, Observable):
            found.append(each)
        else:
            raise TypeError(
                "observables are functions (t, params, data), in a list or by name in a mapping, "
                f"or Observable objects; got {each!r}"
            )
    return found


def _named(given: Any, name: str) -> Any:
    """A function by another name than its own."""
    if isinstance(given, PlainObservable):
        return replace(given, name=name)
    return observable(given, name=name)


def _axis_names(observable: Observable) -> set[str]:
    return {axis for part in observable.variables for axis, _ in part.axes}
