"""The table of a study, as a trajectory whose axes are sizes, systems and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..tasks import Measure, Task
from ..trajectory import SEED, Trajectory, Variable
from .spec import resized

SYSTEM = "system"
VALUE, ORDER, LIMIT = "{}_against_{}", "{}_order_against_{}", "{}_limit_against_{}"
Measured = Mapping[int, Sequence[Measure]]  # of the runs at one point, by seed


class Place(NamedTuple):
    """One cell of the table, all seeds of it: a size, the row of its value, and a system."""

    size: str
    row: int
    system: str


class Plan(NamedTuple):
    """What is to be run.

    Attributes:
        sizes: ascending values of every size that is varied.
        points: the problems, each once, with all the places that its runs have in the table.
    """

    sizes: dict[str, tuple[int, ...]]
    points: dict[Task, list[Place]]

    @classmethod
    def of(cls, task: Task, vary: Mapping[str, Sequence[int]], model_weights: int) -> Plan:
        """The problem at all sizes, and then its counterpart where that has few enough weights."""
        sizes = {name: tuple(sorted(values)) for name, values in vary.items()}
        points: dict[Task, list[Place]] = {}
        counterparts: dict[Task, list[Place]] = {}
        for name, values in sizes.items():
            for row, value in enumerate(values):
                one = resized(task, name, value)
                points.setdefault(one, []).append(Place(name, row, one.title))
                other = one.counterpart(model_weights)
                if other is not None:
                    place = Place(name, row, other.title)
                    counterparts.setdefault(other, []).append(place)
        return cls(sizes, points | counterparts)


def assemble(
    plan: Plan, measured: Mapping[Task, Measured], seeds: Sequence[int], failures: Sequence[str]
) -> Trajectory:
    """The table.

    Args:
        plan: what was to be run.
        measured: of every problem that was.
        seeds: all of them.
        failures: what is missing, and why, a line each.

    Returns:
        For every measure X and size S: ``X_against_S`` over the axes S, ``system`` and ``seed``,
        NaN where there was no such run or it does not have the number; over the axis S
        ``X_order_against_S``, which the paper says that X is in proportion to, and
        ``X_limit_against_S``, what it tends to. ``attrs["measures"]`` has the label and the source
        of the order of every measure.
    """
    systems = list(dict.fromkeys(p.system for places in plan.points.values() for p in places))
    coords = {name: np.asarray(values) for name, values in plan.sizes.items()}
    variables: dict[str, Variable] = {}
    labels: dict[str, dict[str, str]] = {}
    for task, runs in measured.items():
        for seed, measures in runs.items():
            for measure in measures:
                labels[measure.name] = {"label": measure.label, "source": measure.source}
                for place in plan.points[task]:
                    cell = place.row, systems.index(place.system), list(seeds).index(seed)
                    shape = len(coords[place.size]), len(systems), len(seeds)
                    _put(variables, VALUE, measure, place, measure.value, cell, shape)
                    for name, number in ((ORDER, measure.order), (LIMIT, measure.limit)):
                        _put(variables, name, measure, place, number, cell[:1], shape[:1])
    return Trajectory(
        variables=variables,
        coords=coords | {SYSTEM: np.array(systems), SEED: np.array(seeds)},
        final_time=0.0,
        stats={},
        result="end_time",
        attrs={"measures": labels, "failures": list(failures)},
    )


def _put(
    variables: dict[str, Variable],
    template: str,
    measure: Measure,
    place: Place,
    number: float | None,
    cell: tuple[int, ...],
    shape: tuple[int, ...],
) -> None:
    """Write a number into its cell of a variable, which is made where there is none."""
    name = template.format(measure.name, place.size)
    if name not in variables:
        dims = (place.size, SYSTEM, SEED)[: len(shape)]
        variables[name] = Variable(np.full(shape, np.nan), dims, measure.label)
    if number is not None:
        variables[name].values[cell] = number
