"""The record of one run: named NumPy arrays over time, and how the run went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from html import escape
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas
    import xarray
    from matplotlib.axes import Axes

TIME = "time"
SEED = "seed"  # the last axis of what the runs of an ensemble recorded
SAME = 1e-12  # times that differ by less than this share of theirs differ by rounding only


def nearest_rows(times: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where times were recorded, which float32 may have rounded.

    Args:
        times: ascending, shape ``(n,)``.
        wanted: shape ``(k,)``.

    Returns:
        The row whose time is nearest to each of those wanted, and whether it is that time.
    """
    wanted = np.asarray(wanted, float)
    if not len(times):
        return np.zeros(len(wanted), int), np.zeros(len(wanted), bool)
    after = np.clip(np.searchsorted(times, wanted), 1, max(len(times) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(times) - 1)
    row = np.where(wanted - times[before] <= times[after] - wanted, before, after)
    rounded = times[row] == wanted.astype(np.float32)
    return row, rounded | (np.abs(times[row] - wanted) <= SAME * np.abs(wanted))


@dataclass(frozen=True)
class Variable:
    """One recorded quantity.

    Attributes:
        values: array of shape ``(len(times), *shape)``, one row per save time.
        dims: names of the axes; the first is the time axis, ``"time"`` or ``"time_<name>"``.
        label: what a figure writes on the axis.
        units: units of the values, ``"1"`` when dimensionless.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> gf.Variable(np.ones((5, 3)), ("time", "word"), label="response").units
    '1'
    >>> gf.Variable(np.ones((5, 3)), ("time",))
    Traceback (most recent call last):
    ValueError: a variable of shape (5, 3) needs 2 dims, got ('time',)
    """

    values: np.ndarray
    dims: tuple[str, ...]
    label: str = ""
    units: str = "1"

    def __post_init__(self) -> None:
        if self.values.ndim != len(self.dims):
            raise ValueError(
                f"a variable of shape {self.values.shape} needs {self.values.ndim} dims, "
                f"got {self.dims}"
            )


@dataclass(frozen=True)
class Trajectory(Mapping[str, np.ndarray]):
    """Everything that was recorded along one run; needs no model to be read or drawn.

    ``trajectory["loss"]`` is a NumPy array whose first axis is time; ``trajectory.time`` are
    the save times, ``trajectory.times("loss")`` those of one variable that has its own.

    Attributes:
        variables: the recorded quantities by name.
        coords: for every axis its coordinate: save times for the time axes, labels (text or
            numbers) for the others.
        final_time: where the run ended; the last save time unless it was cut short.
        final_params: the parameters at ``final_time``, in the structure of the problem's own;
            ``None`` for a run that was read from disk.
        crossings: for every event the times at which it crossed zero and the direction, an
            array of shape ``(k, 2)`` with rows ``(time, +1 or -1)``, ascending.
        event_values: every event's value at ``final_time``.
        stats: counts and timings; ``gradient_evaluations`` counts every evaluation of grad L
            that was spent, rejected steps included.
        result: why the run ended, e.g. ``"end_time"``; see `gradflow.flow.RESULTS`.
        attrs: anything else worth keeping, of JSON type.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> list(flow)
    ['loss', 'grad_norm', 'distance', 'dissipated', 'energy_residual']
    >>> flow.time, flow["grad_norm"].round(3)  # exp(-t)
    (array([0. , 0.5, 1. , 1.5, 2. ]), array([1.   , 0.607, 0.368, 0.223, 0.135]))
    >>> flow.to_dataframe().shape, dict(flow.to_xarray().sizes)
    ((5, 5), {'time': 5})
    """

    variables: dict[str, Variable]
    coords: dict[str, np.ndarray]
    final_time: float
    stats: dict[str, Any]
    result: str
    final_params: Any = None
    crossings: dict[str, np.ndarray] = field(default_factory=dict)
    event_values: dict[str, float] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def time(self) -> np.ndarray:
        """The save times, shape ``(n,)``."""
        return self.coords[TIME]

    def times(self, name: str) -> np.ndarray:
        """The times at which the variable `name` was recorded, shape ``(n,)``."""
        return self.coords[self._variable(name).dims[0]]

    def sel(self, name: str, **labels: Any) -> np.ndarray:
        """The variable `name` at the given coordinate labels, e.g. ``sel("response", word=3)``.

        Returns:
            The values with the labelled axes taken out.

        Raises:
            KeyError: the variable, one of its axes or a label does not exist.
        """
        variable = self._variable(name)
        index: list[Any] = [slice(None)] * len(variable.dims)
        for dim, label in labels.items():
            if dim not in variable.dims:
                raise KeyError(f"{name!r} has no axis {dim!r}; its axes are {variable.dims}")
            where = np.flatnonzero(self.coords[dim] == label)
            if where.size == 0:
                raise KeyError(f"{dim!r} has no label {label!r}; it has {list(self.coords[dim])}")
            index[variable.dims.index(dim)] = int(where[0])
        return variable.values[tuple(index)]

    def extended(self, variables: Mapping[str, Variable], stats: dict[str, Any]) -> Trajectory:
        """The same with further variables, on axes that it has, and other `stats`."""
        return replace(self, variables=self.variables | dict(variables), stats=stats)

    def at_times(self, times: Mapping[str, np.ndarray]) -> Trajectory:
        """Only the rows at the given times, by time axis: those of a run that records no others.

        Where it ended before the last of them, the row of its end is kept too.
        """
        keep = {}
        for axis, wanted in times.items():
            rows, known = nearest_rows(self.coords[axis], wanted)
            keep[axis] = np.isin(np.arange(len(self.coords[axis])), rows[known])
            keep[axis][-1:] |= not np.all(known)
        return replace(
            self,
            variables={
                name: replace(v, values=v.values[keep[v.dims[0]]]) if v.dims[0] in keep else v
                for name, v in self.variables.items()
            },
            coords={
                name: values[keep[name]] if name in keep else values
                for name, values in self.coords.items()
            },
        )

    def __getitem__(self, name: str) -> np.ndarray:
        return self._variable(name).values

    def __contains__(self, name: object) -> bool:
        return name in self.variables

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    def __len__(self) -> int:
        return len(self.variables)

    def __repr__(self) -> str:
        stats = self.stats
        axes = ", ".join(self.coords)
        if TIME in self.coords:
            axes = f"{len(self.time)} times to t = {self.final_time:g}"
        return (
            f"Trajectory({axes}, "
            f"result {self.result!r}, {stats.get('gradient_evaluations', '?')} gradient "
            f"evaluations, variables {', '.join(self.variables)})"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: how the run went, and what was recorded."""
        told = [f"t = {self.final_time:.6g}", f"ended by {self.result}"]
        counts = ("gradient_evaluations", "solver", "error_estimate", "wall_seconds")
        for name in counts:
            if (value := self.stats.get(name)) is not None:
                shown = f"{value:.4g}" if isinstance(value, float) else str(value)
                told.append(f"{name.replace('_', ' ')}: {shown}")
        rows = []
        for name, variable in self.variables.items():
            axes = ", ".join(
                f"{dim} ({n})" for dim, n in zip(variable.dims, variable.values.shape, strict=True)
            )
            ends = ""
            if variable.values.ndim == 1 and len(variable.values):
                ends = f"{variable.values[0]:.4g} &rarr; {variable.values[-1]:.4g}"
            units = "" if variable.units == "1" else variable.units
            cells = (f"<code>{escape(name)}</code>", *map(escape, (axes, variable.label, units)))
            rows.append("".join(f"<td>{cell}</td>" for cell in (*cells, ends)))
        heads = "".join(f"<th>{head}</th>" for head in ("variable", "axes", "label", "units", ""))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return (
            f"<p><b>Trajectory</b>: {escape(', '.join(told))}</p>"
            f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        )

    def _variable(self, name: str) -> Variable:
        try:
            return self.variables[name]
        except KeyError:
            near = get_close_matches(name, self.variables, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise KeyError(
                f"no variable {name!r} was recorded{hint} There are: {', '.join(self.variables)}"
            ) from None

    def plot(self, *names: str, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw variables against time; see `gradflow.plotting.plot`, which this is."""
        from .plotting import plot  # the one look upwards: a record shows itself when asked to

        return plot(self, *names, ax=ax, **options)

    def to_dataframe(self, axis: str = TIME) -> pandas.DataFrame:
        """What was recorded at one set of times, a row for each.

        Args:
            axis: a time axis, ``"time"`` or ``"time_<name>"``.

        Returns:
            A column for every variable, or, where it has other axes, for each of its entries:
            ``response[3]``, ``attention_score[1, 2]``.

        Raises:
            KeyError: no such axis.
        """
        import pandas

        if axis not in self.coords or not axis.startswith(TIME):
            times = ", ".join(name for name in self.coords if name.startswith(TIME))
            raise KeyError(f"no time axis {axis!r}; there are: {times}")
        columns: dict[str, np.ndarray] = {}
        for name, variable in self.variables.items():
            if variable.dims[0] != axis:
                continue
            labels = product(*(self.coords[dim].tolist() for dim in variable.dims[1:]))
            flat = variable.values.reshape(len(variable.values), -1)
            for i, label in enumerate(labels):
                entry = f"[{', '.join(map(str, label))}]" if label else ""
                columns[name + entry] = flat[:, i]
        return pandas.DataFrame(columns, index=pandas.Index(self.coords[axis], name=axis))

    def to_xarray(self) -> xarray.Dataset:
        """The variables as an `xarray.Dataset`, with their labels and units.

        Those that ``attrs["coordinates"]`` names are further coordinates of their axes.
        """
        import xarray

        return xarray.Dataset(
            {
                name: (v.dims, v.values, {"long_name": v.label or name, "units": v.units})
                for name, v in self.variables.items()
            },
            coords={
                name: (name, values, {"long_name": "time", "units": "1"})
                if name.startswith(TIME)
                else (name, values)
                for name, values in self.coords.items()
            },
        ).set_coords(self.attrs.get("coordinates", ()))
