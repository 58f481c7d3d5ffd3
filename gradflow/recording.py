"""Recording along a run: groups of observables with common save times, their rows, the series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .analysis import energy_residual
from .fields import AbstractField
from .observables import Observable, Reading, Snapshot
from .problem import Problem
from .save_times import SaveTimes
from .trajectory import TIME, Trajectory, Variable


@dataclass(frozen=True)
class Group:
    """Observables that are recorded together.

    Attributes:
        axis: the name of their time axis.
        save: when.
        observables: what.
    """

    axis: str
    save: SaveTimes
    observables: tuple[Observable, ...]


def grouped(
    save: SaveTimes, save_each: Mapping[str, SaveTimes], observables: Sequence[Observable]
) -> tuple[Group, ...]:
    """The observables by when they are recorded; the group of the run's own times comes first.

    Raises:
        ValueError: save times for an observable that there is not.
    """
    each = dict.fromkeys(o.name for o in observables)
    for key in save_each:
        if key not in each:
            raise ValueError(f"save_each: no observable {key!r}; there are {', '.join(each)}")
    together: dict[str, tuple[str, SaveTimes, list[Observable]]] = {
        save.model_dump_json(): (TIME, save, [])
    }
    for observable in observables:
        own = save_each.get(observable.name) or observable.save or save
        new = (f"{TIME}_{observable.name}", own, [])
        together.setdefault(own.model_dump_json(), new)[2].append(observable)
    return tuple(Group(axis, own, tuple(members)) for axis, own, members in together.values())


class Recorder(eqx.Module):
    """Readings of a snapshot, as readings of a run's state.

    Attributes:
        problem: the problem's functions.
        field: the field that is followed.
        origin: the parameters at t = 0.
        readings: of a `Snapshot`.
    """

    problem: Problem
    field: AbstractField
    origin: PyTree
    readings: tuple[Reading, ...] = eqx.field(static=True)

    def begin(
        self, t: Float[Array, ""], state: PyTree, slope: PyTree, data: PyTree
    ) -> tuple[PyTree, ...]:
        """Their memories before the first row; ``None`` for those that have none."""
        if all(r.memory is None for r in self.readings):
            return (None,) * len(self.readings)
        snapshot = self._snapshot(t, state, slope, data)
        return tuple(r.memory and r.memory(snapshot) for r in self.readings)

    def __call__(
        self, t: Float[Array, ""], state: PyTree, slope: PyTree, data: PyTree, memory: PyTree
    ) -> tuple[tuple[PyTree[Array], ...], tuple[PyTree, ...]]:
        """Their values at one moment, and their memories for the next."""
        snapshot = self._snapshot(t, state, slope, data)
        rows = [r(snapshot, m) for r, m in zip(self.readings, memory, strict=True)]
        values, memories = zip(*rows, strict=True) if rows else ((), ())
        return values, memories

    def _snapshot(self, t, state, slope, data) -> Snapshot:
        field = self.field
        gradient = field.gradient(state, slope, data)
        return Snapshot(
            self.problem,
            t,
            field.params(state),
            self.origin,
            field.params(slope),
            data,
            field.dissipated(state),
            gradient,
            field.energy(state, gradient, data),
        )


class StackedRecorder(eqx.Module):
    """Scalar functions of a snapshot as one vector."""

    recorder: Recorder

    def __call__(
        self, t: Float[Array, ""], state: PyTree, slope: PyTree, data: PyTree
    ) -> Float[Array, " n"]:
        """The functions' values at one moment."""
        nothing = (None,) * len(self.recorder.readings)
        return jnp.stack(self.recorder(t, state, slope, data, nothing)[0])


@dataclass(frozen=True)
class Series:
    """What was recorded, as a trajectory holds it.

    Attributes:
        variables: by name.
        coords: of every axis, those of time included.
        evaluations: gradient evaluations that it took; ``None`` where nothing takes any.
    """

    variables: dict[str, Variable]
    coords: dict[str, np.ndarray]
    evaluations: int | None


def series(
    problem: Problem,
    groups: Sequence[Group],
    times: Sequence[np.ndarray],
    values: Sequence[Sequence[PyTree[np.ndarray]]],
) -> Series:
    """The rows of all groups as variables, and the residual of the energy identity with them.

    Args:
        problem: what was observed.
        groups: what was recorded when.
        times: of each group, shape ``(n,)``.
        values: of each group, and in it of each observable, rows with time first; a tuple of
            them where it has parts.
    """
    variables: dict[str, Variable] = {}
    coords: dict[str, np.ndarray] = {}
    costs = []
    for group, at, rows in zip(groups, times, values, strict=True):
        coords[group.axis] = np.asarray(at, dtype=np.float64)
        found, labels = _as_variables(group.observables, rows, group.axis)
        variables |= found
        coords |= labels
        costs += [len(at) * o.cost(problem) for o in group.observables if o.cost is not None]
    if "dissipated" in variables:
        energy, dissipated = (
            variables.get("flow_energy", variables["loss"]),
            variables["dissipated"],
        )
        at = coords[energy.dims[0]]
        if energy.dims == dissipated.dims and at.size and at[0] == 0:
            variables["energy_residual"] = Variable(
                energy_residual(energy.values, dissipated.values), energy.dims, "energy residual"
            )
    return Series(variables, coords, sum(costs) if costs else None)


def _as_variables(
    observables: Sequence[Observable], values: Sequence[PyTree[np.ndarray]], time_axis: str
) -> tuple[dict[str, Variable], dict[str, np.ndarray]]:
    """The variables by name, and the coordinates of all their axes but time."""
    variables: dict[str, Variable] = {}
    coords: dict[str, np.ndarray] = {}
    for observable, value in zip(observables, values, strict=True):
        arrays = value if observable.parts else (value,)
        for part, rows in zip(observable.variables, arrays, strict=True):
            axes = part.axes
            if not axes:  # a plain function says nothing about its axes
                axes = tuple(
                    (f"{part.name}_{i}", range(size)) for i, size in enumerate(rows.shape[1:])
                )
            coords.update({name: np.asarray(labels) for name, labels in axes})
            dims = (time_axis, *(name for name, _ in axes))
            variables[part.name] = Variable(rows, dims, part.label, part.units)
    return variables, coords


def rows_of(
    groups: Sequence[Group], record: Trajectory
) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """What `series` was made of: of each group its times, and the arrays of its observables."""
    return [
        (
            record.coords[group.axis],
            [record[part.name] for o in group.observables for part in o.variables],
        )
        for group in groups
    ]
