"""What the points of a sweep have come to, as one record over its dimensions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import storage
from ..trajectory import Trajectory, Variable, nearest_rows
from .dimensions import Dimension
from .plan import Plan, Point
from .point import Status, place, read_json

RATE = "learning_rate"
# The scalars of a run, by their place in its summary, with what figures write on their axes.
SCALARS = {
    "final_loss": ("loss", "loss at the end"),
    "final_time": ("t1", "time at the end"),
    "gradient_evaluations": ("gradient_evaluations", "gradient evaluations"),
    "accepted": ("accepted", "steps"),
    "rejected": ("rejected", "rejected steps"),
    "error_estimate": ("error_estimate", "estimated error"),
    "wall_seconds": ("wall_seconds", "seconds of computing"),
    "compile_seconds": ("compile_seconds", "seconds of compiling"),
}
DESCENT = {
    "max_drift": ("max_drift", "largest drift from the flow"),
    "relative_drift": ("relative_drift", "drift from the flow, relative"),
    "descent_loss": ("loss", "loss of descent at the end"),
    "descent_steps": ("steps", "steps of descent"),
    "diverged": ("diverged", "whether descent diverged"),
}
_WORST = "worst_{}"  # of what the flow conserves: its own name is that of its course
# Bytes that one series may take for all points together, and that all may.
_SERIES, _ALL = 2**26, 2**28


def collect(plan: Plan, directory: Path, statuses: Mapping[str, Status]) -> Trajectory:
    """The record of a sweep, of which some points may be missing or have failed.

    Args:
        plan: the sweep.
        directory: where its points lie.
        statuses: how far every point is, by its key.

    Returns:
        Over the dimensions of the plan: the scalars of `SCALARS`, the phases by their names, the
        worst drifts of what the flow conserves as ``worst_<name>``, and the texts ``result`` and
        ``failure``; over ``learning_rate`` too those of `DESCENT`; and, with their own axes first,
        what the flows recorded at the same times. NaN where there is no number. Along a dimension
        of zipped keys ``attrs["coordinates"]`` names the variables that are their values;
        ``attrs["left_out"]`` says which series are not there, and why.
    """
    table = _Table(plan.dimensions)
    series = _Series(plan.dimensions)
    for point in plan.points:
        status = statuses.get(point.key, Status())
        # A point whose numerics have failed has recorded what it had until then.
        ran = status.done or status.error
        summary, flow = _stored(place(directory, point.key)) if ran else ({}, None)
        table.enter(point, status, summary)
        if flow is not None:
            series.enter(point, flow)
    known = {*table.variables, *table.coords}
    variables, coords, left_out = series.finish(known)
    done = sum(status.done for status in statuses.values())
    return Trajectory(
        variables=table.variables | variables,
        coords=coords | table.coords,
        final_time=0.0,
        stats={"points": len(plan.points), "done": done},
        result="end_time" if done == len(plan.points) else "cancelled",
        attrs={
            "dimensions": [dim.name for dim in plan.dimensions],
            "coordinates": table.zipped,
            "left_out": left_out,
        },
    )


def _stored(directory: Path) -> tuple[dict[str, Any], Trajectory | None]:
    """The summary and the flow of a point, as far as it has them."""
    try:
        summary = read_json(directory / storage.SUMMARY)
        return summary, storage.read_trajectory(directory / storage.FLOW)
    except (OSError, ValueError, storage.StorageError):
        return {}, None


class _Table:
    """The scalars of every point."""

    def __init__(self, dimensions: tuple[Dimension, ...]) -> None:
        self._dims = tuple(dim.name for dim in dimensions)
        self._shape = tuple(map(len, dimensions))
        self.coords = {dim.name: dim.labels for dim in dimensions}
        self.variables: dict[str, Variable] = {}
        self.zipped: list[str] = []
        self._rates: list[float] = []
        for dim in dimensions:
            for axis in dim.axes:
                if axis.name != dim.name:
                    self.zipped.append(axis.name)
                    self.variables[axis.name] = Variable(axis.labels, (dim.name,), axis.name)
        for name in ("result", "failure"):
            self.variables[name] = Variable(np.full(self._shape, "", object), self._dims, name)

    def enter(self, point: Point, status: Status, summary: dict[str, Any]) -> None:
        """What is known of a point."""
        flow = summary.get("flow", {})
        result = flow.get("result", "error") if status.done or status.error else "missing"
        self.variables["result"].values[point.index] = result
        self.variables["failure"].values[point.index] = status.error
        for name, (key, label) in SCALARS.items():
            self._put(name, label, point, flow.get(key))
        for name, at in summary.get("phases", {}).items():
            label = re.sub(r"^T_?(\d+|half)$", r"$T_{\1}$", name).replace("half", "1/2")
            self._put(name, label, point, at["median"] if isinstance(at, dict) else at)
        for name, drift in summary.get("invariants", {}).items():
            label = f"worst drift of {name.replace('_', ' ')}"
            self._put(_WORST.format(name), label, point, drift)
        for row in summary.get("descent", ()):
            for name, (key, label) in DESCENT.items():
                self._put(name, label, point, row[key], row[RATE])

    def _put(
        self, name: str, label: str, point: Point, number: Any, rate: float | None = None
    ) -> None:
        """Write a number into its cell of a variable, which is made where there is none."""
        if not isinstance(number, int | float):
            return
        if rate is not None and rate not in self._rates:
            self._widen(rate)
        if name not in self.variables:
            dims, shape = self._dims, self._shape
            if rate is not None:
                dims, shape = (RATE, *dims), (len(self._rates), *shape)
            self.variables[name] = Variable(np.full(shape, np.nan), dims, label)
        row = () if rate is None else (self._rates.index(rate),)
        self.variables[name].values[*row, *point.index] = number

    def _widen(self, rate: float) -> None:
        """Make room for a learning rate that no point has had before, in ascending order."""
        at = int(np.searchsorted(self._rates, rate))
        self._rates.insert(at, rate)
        self.coords[RATE] = np.array(self._rates)
        for name, variable in self.variables.items():
            if variable.dims[0] == RATE:
                values = np.insert(variable.values, at, np.nan, axis=0)
                self.variables[name] = Variable(values, variable.dims, variable.label)


class _Own(NamedTuple):
    """A series of all points: its own axes before those of the sweep."""

    variable: Variable
    axes: dict[str, np.ndarray]

    def reaching(self, time: str, times: np.ndarray) -> _Own:
        """The same over later times too, where it has so far only their beginning."""
        before = self.axes.get(time, times)
        rows, there = nearest_rows(times, before)
        if len(times) <= len(before) or not there[:-1].all():
            return self
        values = np.full((len(times), *self.variable.values.shape[1:]), np.nan)
        values[rows[there]] = self.variable.values[there]
        return _Own(replace(self.variable, values=values), self.axes | {time: times})


class _Series:
    """What the flows recorded, where all have recorded it alike."""

    def __init__(self, dimensions: tuple[Dimension, ...]) -> None:
        self._dims = tuple(dim.name for dim in dimensions)
        self._shape = tuple(map(len, dimensions))
        self._found: dict[str, _Own] = {}
        self._left_out: dict[str, str] = {}
        self._bytes = 0

    def enter(self, point: Point, flow: Trajectory) -> None:
        """What the flow of one point recorded."""
        for name, variable in flow.variables.items():
            if name in self._left_out:
                continue
            axes = {dim: flow.coords[dim] for dim in variable.dims}
            if name not in self._found and not self._begin(name, variable, axes):
                continue
            self._fill(name, point, variable, axes)

    def _begin(self, name: str, variable: Variable, axes: dict[str, np.ndarray]) -> bool:
        shape = (*variable.values.shape, *self._shape)
        size = 8 * int(np.prod(shape))
        if size > _SERIES or self._bytes + size > _ALL:
            self._left_out[name] = f"it would take {size / 1e6:.0f} MB"
        elif variable.values.dtype.kind not in "fiub":
            self._left_out[name] = "it is no number"
        else:
            self._bytes += size
            dims = (*variable.dims, *self._dims)
            full = Variable(np.full(shape, np.nan), dims, variable.label, variable.units)
            self._found[name] = _Own(full, axes)
            return True
        return False

    def _fill(
        self, name: str, point: Point, variable: Variable, axes: dict[str, np.ndarray]
    ) -> None:
        time = variable.dims[0]
        own = self._found[name] = self._found[name].reaching(time, axes[time])
        rows, there = nearest_rows(own.axes[time], axes[time])
        others = [dim for dim in axes if dim != time]
        if (
            tuple(own.axes) == variable.dims
            # A run that ended on its way has recorded that beside the times that were asked for.
            and there[:-1].all()
            and all(np.array_equal(own.axes[dim], axes[dim]) for dim in others)
        ):
            own.variable.values[(rows[there], ..., *point.index)] = variable.values[there]
            return
        del self._found[name]
        self._left_out[name] = "its axes differ from point to point"

    def finish(
        self, taken: set[str]
    ) -> tuple[dict[str, Variable], dict[str, np.ndarray], dict[str, str]]:
        """The series with their coordinates, and which are left out, and why."""
        variables: dict[str, Variable] = {}
        coords: dict[str, np.ndarray] = {}
        for name, (variable, axes) in self._found.items():
            if not taken.isdisjoint({name, *axes}):
                self._left_out[name] = "a dimension or a number of the sweep has its name"
            elif any(not np.array_equal(coords.get(dim, axes[dim]), axes[dim]) for dim in axes):
                self._left_out[name] = "its axes differ from those of another"
            else:
                variables[name] = variable
                coords |= axes
        return variables, coords, self._left_out
