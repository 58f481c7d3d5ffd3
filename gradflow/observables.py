"""What is recorded along a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ._linalg import tree_norm, tree_sub
from .problem import Problem
from .save_times import SaveTimes
from .trajectory import Variable


class Snapshot(eqx.Module):
    """One moment of a run, as observables see it.

    Attributes:
        problem: the problem's functions (without its parameters and data).
        time: the time t.
        arrays: the trained parameters.
        origin: the trained parameters at t = 0.
        slope: d arrays/dt along the run: minus the gradient, for gradient flow.
        data: the problem's data.
        dissipated: the integral of |grad L|^2 so far; ``None`` where the run has no loss.
    """

    problem: Problem
    time: Float[Array, ""]
    arrays: PyTree
    origin: PyTree
    slope: PyTree
    data: PyTree
    dissipated: Float[Array, ""] | None = None

    @property
    def params(self) -> Any:
        """The parameters in the structure that the problem was given."""
        return self.problem.model(self.arrays)

    @property
    def initial(self) -> Any:
        """The parameters at t = 0, in the structure that the problem was given."""
        return self.problem.model(self.origin)


@dataclass(frozen=True)
class Observable:
    """A quantity recorded along a run.

    Attributes:
        name: what the trajectory calls it.
        function: from a `Snapshot` to an array of fixed shape. Two observables with the same
            function are the same to the compiler: define it once, outside of loops.
        axes: for every axis of that array its name and its labels.
        label: what a figure writes on its axis.
        units: units of the values, ``"1"`` when dimensionless.
        save: when to record it, if not whenever the run records; for what is expensive.
    """

    name: str
    function: Callable[[Snapshot], Array]
    axes: tuple[tuple[str, tuple[str | int, ...]], ...] = ()
    label: str = ""
    units: str = "1"
    save: SaveTimes | None = None


@dataclass(frozen=True)
class Event:
    """A scalar function of a `Snapshot` whose zero crossings are located along a run."""

    name: str
    function: Callable[[Snapshot], Float[Array, ""]]


def _loss(snapshot: Snapshot) -> Array:
    return snapshot.problem.loss(snapshot.arrays, snapshot.data)


def _grad_norm(snapshot: Snapshot) -> Array:
    return tree_norm(snapshot.slope)


def _distance(snapshot: Snapshot) -> Array:
    return tree_norm(tree_sub(snapshot.arrays, snapshot.origin))


def _dissipated(snapshot: Snapshot) -> Array:
    assert snapshot.dissipated is not None
    return snapshot.dissipated


LOSS = Observable("loss", _loss, label="loss")
GRAD_NORM = Observable("grad_norm", _grad_norm, label="gradient norm")
DISTANCE = Observable("distance", _distance, label="distance travelled")
DISSIPATED = Observable("dissipated", _dissipated, label="integral of squared gradient norm")
COMMON = (LOSS, GRAD_NORM, DISTANCE, DISSIPATED)  # of every run of a problem with a loss


@dataclass(frozen=True)
class _Plain:
    """A user's function ``(t, params, data)`` as one of a snapshot."""

    function: Callable[[Any, Any, Any], Array]

    def __call__(self, snapshot: Snapshot) -> Array:
        return jnp.asarray(self.function(snapshot.time, snapshot.params, snapshot.data))


def recorded(
    problem: Problem,
    extra: Sequence[Observable] | Mapping[str, Callable[[Any, Any, Any], Array]] = (),
) -> tuple[Observable, ...]:
    """All that a run of `problem` records: the common quantities, the problem's own, and `extra`.

    Args:
        problem: what is solved.
        extra: observables, or plain functions ``(t, params, data)`` by name.

    Returns:
        The observables, every name once.

    Raises:
        ValueError: two observables of one name.
        TypeError: `extra` holds something else.
    """
    common = COMMON if problem.has_loss else (DISTANCE,)
    if isinstance(extra, Mapping):
        extra = [Observable(name, _Plain(function)) for name, function in extra.items()]
    every = (*common, *problem.observables, *extra)
    names: set[str] = set()
    for observable in every:
        if not isinstance(observable, Observable):
            raise TypeError(
                f"observables are Observable objects, or a mapping from names to functions "
                f"(t, params, data); got {observable!r}"
            )
        if observable.name in names:
            raise ValueError(f"two observables are called {observable.name!r}; rename one")
        names.add(observable.name)
    return every


class Splits(Protocol):
    """What a recorder asks of a field: which part of its state are the parameters."""

    def measured(self, state: PyTree) -> PyTree:
        """The parameters' part of a state, or of its slope."""
        ...

    def split(self, state: PyTree) -> tuple[PyTree, Float[Array, ""] | None]:
        """The parameters, and the energy dissipated if it is known."""
        ...


class Recorder(eqx.Module):
    """Functions of a snapshot, as functions of a run's state.

    Attributes:
        problem: the problem's functions.
        field: the field that is followed.
        origin: the parameters at t = 0.
        functions: from a `Snapshot` to an array.
    """

    problem: Problem
    field: Splits
    origin: PyTree
    functions: tuple[Callable[[Snapshot], Array], ...] = eqx.field(static=True)

    def __call__(
        self, t: Float[Array, ""], state: PyTree, slope: PyTree, data: PyTree
    ) -> tuple[Array, ...]:
        """The functions' values at one moment."""
        arrays, dissipated = self.field.split(state)
        snapshot = Snapshot(
            self.problem, t, arrays, self.origin, self.field.measured(slope), data, dissipated
        )
        return tuple(jnp.asarray(function(snapshot)) for function in self.functions)


class StackedRecorder(eqx.Module):
    """Scalar functions of a snapshot as one vector."""

    recorder: Recorder

    def __call__(
        self, t: Float[Array, ""], state: PyTree, slope: PyTree, data: PyTree
    ) -> Float[Array, " n"]:
        """The functions' values at one moment."""
        return jnp.stack(self.recorder(t, state, slope, data))


def as_variables(
    observables: Sequence[Observable], values: Sequence[np.ndarray], time_axis: str
) -> tuple[dict[str, Variable], dict[str, np.ndarray]]:
    """What was recorded, as a trajectory holds it.

    Args:
        observables: what was recorded.
        values: the rows of each, time first.
        time_axis: the name of their time axis.

    Returns:
        The variables by name, and the coordinates of all their axes but time.
    """
    variables: dict[str, Variable] = {}
    coords: dict[str, np.ndarray] = {}
    for observable, rows in zip(observables, values, strict=True):
        axes = observable.axes
        if not axes:  # a plain function says nothing about its axes
            axes = tuple(
                (f"{observable.name}_{i}", range(size)) for i, size in enumerate(rows.shape[1:])
            )
        coords.update({name: np.asarray(labels) for name, labels in axes})
        dims = (time_axis, *(name for name, _ in axes))
        variables[observable.name] = Variable(rows, dims, observable.label, observable.units)
    return variables, coords
