"""A comparison as a trajectory over time and learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .._linalg import Separation
from ..analysis import fitted_order
from ..observables import Observable
from ..trajectory import TIME, Trajectory, Variable, nearest_rows
from .lattice import Lattice

RATE = "learning_rate"
FITTED = "fitted_rates"  # the attribute of a comparison that has the rates of its fits
# Of one time of comparison, for every rate: apart from the flow, and from its modified flow.
Row = Sequence[tuple[Separation | None, Separation | None]]
_AXES = (TIME, RATE)
_ORDER = ("drift_order", "drift_order_low", "drift_order_high")
_OWN = ("drift", "relative_drift", *_ORDER)


def check_names(observables: Sequence[Observable]) -> None:
    """Refuse observables that are called as something that a comparison says itself.

    Raises:
        ValueError: naming one.
    """
    names = {part.name for o in observables for part in o.variables}
    own = {"cosine", *_OWN, *(f"modified_{name}" for name in _OWN)}
    own |= {f"{name}_difference" for name in names}
    for name in sorted(names):
        if name in own or name.startswith(f"matched_{TIME}"):
            raise ValueError(
                f"an observable is called {name!r}, as is what a comparison records; rename it"
            )


def assemble(
    rates: Sequence[float],
    lattices: Mapping[str, Lattice],
    rows: Sequence[Row],
    flow: Trajectory,
    descents: Sequence[Trajectory],
    fitted: Sequence[float],
) -> Trajectory:
    """The comparison.

    Args:
        rates: the learning rates.
        lattices: the times of comparison for every time axis of the flow.
        rows: how far the runs were apart at those of the axis ``time``, as far as they came.
        flow: with all the rows that `Lattice.flow` asks for, as far as it came.
        descents: one for each rate.
        fitted: the rates that orders are fitted over.

    Returns:
        Over the axes ``time`` and ``learning_rate``, NaN where a descent had ended: ``drift``,
        |params - flow's|; ``relative_drift``, the same divided by the distance that the flow has
        travelled; ``cosine`` of the angle between the two displacements; ``modified_drift`` and
        ``modified_relative_drift`` from the modified flow. Over ``time``: ``drift_order``, fitted
        over the rates in the attribute ``fitted_rates``, and the ends of its 95 % confidence
        interval, ``drift_order_low`` and ``_high``; likewise ``modified_drift_order``. For every
        observable X of flow and descents, over its own time axis: X of the descents, and
        ``X_difference`` from the flow. For every time axis ``matched_<axis>``, the times at which
        the two were compared.
    """
    main = lattices[TIME]
    done = len(rows)
    coords: dict[str, np.ndarray] = {RATE: np.asarray(rates, float)}
    variables = _drifts(np.asarray(rates, float), rows, fitted)
    for axis, lattice in lattices.items():
        count = done if axis == TIME else len(lattice.times)
        coords[axis] = lattice.times[:count]
        variables[f"matched_{axis}"] = Variable(
            lattice.matched[:count], (axis, RATE), "time of comparison"
        )
        for name, variable in flow.variables.items():
            if variable.dims[0] == axis and all(name in d for d in descents):
                variables |= _observable(name, lattice, count, flow, descents)
                coords |= {dim: flow.coords[dim] for dim in variable.dims[1:]}
    return Trajectory(
        variables=variables,
        coords=coords,
        final_time=float(main.times[done - 1]) if done else 0.0,
        stats={},
        result=flow.result,
        attrs={FITTED: list(fitted)},
    )


def _drifts(rates: np.ndarray, rows: Sequence[Row], fitted: Sequence[float]) -> dict[str, Variable]:
    kept = np.isin(rates, fitted)

    def table(which: int, name: str) -> np.ndarray:
        values = [
            [np.nan if pair[which] is None else getattr(pair[which], name) for pair in row]
            for row in rows
        ]
        return np.asarray(values, float).reshape(len(rows), len(rates))

    found: dict[str, Variable] = {}
    for which, prefix, what in ((0, "", "flow"), (1, "modified_", "modified flow")):
        if which and all(pair[which] is None for row in rows for pair in row):
            continue
        drift, travelled = table(which, "distance"), table(which, "travelled")
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(travelled > 0, drift / travelled, np.nan)
        found[f"{prefix}drift"] = Variable(drift, _AXES, f"distance from the {what}")
        found[f"{prefix}relative_drift"] = Variable(relative, _AXES, f"drift from the {what}")
        if not which:
            found["cosine"] = Variable(table(0, "cosine"), _AXES, "cosine of the displacements")
        orders = [fitted_order(rates[kept], row[kept])[:3] for row in drift]
        for column, name in enumerate(_ORDER):
            values = np.array([order[column] for order in orders])
            label = f"order of the drift from the {what}"
            found[f"{prefix}{name}"] = Variable(values, (TIME,), label)
    return found


def _observable(
    name: str, lattice: Lattice, count: int, flow: Trajectory, descents: Sequence[Trajectory]
) -> dict[str, Variable]:
    """The observable under the descents, and its difference from the flow."""
    variable = flow.variables[name]
    axis, *others = variable.dims
    shape = (count, len(descents), *variable.values.shape[1:])
    values, there = np.full(shape, np.nan), np.full(shape, np.nan)
    for j, descent in enumerate(descents):
        matched = lattice.matched[:count, j]
        for target, run in ((values, descent), (there, flow)):
            row, known = nearest_rows(run.times(name), matched)
            target[known, j] = run[name][row[known]]
    with np.errstate(invalid="ignore"):
        difference = values - there
    dims = (axis, RATE, *others)
    label = f"difference of {variable.label or name}"
    return {
        name: Variable(values, dims, variable.label, variable.units),
        f"{name}_difference": Variable(difference, dims, label, variable.units),
    }
