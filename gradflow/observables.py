"""What is recorded along a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ._linalg import tree_norm, tree_sub
from .problem import Problem
from .save_times import SaveTimes


class Snapshot(eqx.Module):
    """One moment of a run, as observables see it.

    Attributes:
        problem: the problem's functions (without its parameters and data).
        time: the time t.
        arrays: the trained parameters.
        origin: the trained parameters at t = 0.
        slope: d arrays/dt along the run: minus the gradient, for gradient flow.
        data: the problem's data.
        dissipated: the integral of |grad L|^2 so far; ``None`` where the run has no loss. Of
            other fields than the gradient's, what their energy has lost.
        gradient: grad L up to its sign; ``None`` where that is the slope.
        energy: what is dissipated; ``None`` where that is the loss.
    """

    problem: Problem
    time: Float[Array, ""]
    arrays: PyTree
    origin: PyTree
    slope: PyTree
    data: PyTree
    dissipated: Float[Array, ""] | None = None
    gradient: PyTree = None
    energy: Float[Array, ""] | None = None

    @property
    def params(self) -> Any:
        """The parameters in the structure that the problem was given."""
        return self.problem.model(self.arrays)

    @property
    def initial(self) -> Any:
        """The parameters at t = 0, in the structure that the problem was given."""
        return self.problem.model(self.origin)


class Reading(NamedTuple):
    """An observable or event without its labels: these may change without compiling again.

    Attributes:
        function: from a `Snapshot`, and a memory where there is one.
        memory: as `Observable.memory`.
        several: whether the function returns a tuple of arrays, not one.
    """

    function: Callable[..., Any]
    memory: Callable[[Snapshot], PyTree] | None = None
    several: bool = False

    def __call__(self, snapshot: Snapshot, memory: PyTree) -> tuple[PyTree[Array], PyTree]:
        """The value at one moment, and the memory for the next."""
        if self.memory is None:
            value = self.function(snapshot)
        else:
            value, memory = self.function(snapshot, memory)
        return tuple(map(jnp.asarray, value)) if self.several else jnp.asarray(value), memory


Axes = tuple[tuple[str, tuple[str | int, ...]], ...]


@dataclass(frozen=True)
class Part:
    """One of several arrays that an observable's function returns together.

    Attributes:
        name: what the trajectory calls it.
        axes: for every axis of the array its name and its labels.
        label: what a figure writes on its axis.
        units: units of the values, ``"1"`` when dimensionless.
    """

    name: str
    axes: Axes = ()
    label: str = ""
    units: str = "1"


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
        parts: where the function returns a tuple of arrays, what each of them is; each is then
            a variable of the trajectory, and `axes`, `label` and `units` say nothing.
        memory: where a value begins from the one before: from the `Snapshot` at t = 0 to a
            pytree of arrays. The function then takes ``(snapshot, memory)`` and returns its
            value and the memory for the next save time, of the same shapes and dtypes.
        cost: from the problem to the gradient evaluations that one value takes, a
            Hessian-vector product counted as two; ``None`` if it takes none. It raises
            `ValueError` for a problem that cannot be observed so.
    """

    name: str
    function: Callable[..., Any]
    axes: Axes = ()
    label: str = ""
    units: str = "1"
    save: SaveTimes | None = None
    parts: tuple[Part, ...] = ()
    memory: Callable[[Snapshot], PyTree] | None = None
    cost: Callable[[Problem], int] | None = None

    @property
    def variables(self) -> tuple[Part, ...]:
        """Every array that the function returns."""
        return self.parts or (Part(self.name, self.axes, self.label, self.units),)

    @property
    def reading(self) -> Reading:
        """What the compiled program knows of it."""
        return Reading(self.function, self.memory, several=bool(self.parts))


@dataclass(frozen=True)
class Event:
    """A scalar function of a `Snapshot` whose zero crossings are located along a run."""

    name: str
    function: Callable[[Snapshot], Float[Array, ""]]

    @property
    def reading(self) -> Reading:
        """What the compiled program knows of it."""
        return Reading(self.function)


def _loss(snapshot: Snapshot) -> Array:
    return snapshot.problem.loss(snapshot.arrays, snapshot.data)


def _grad_norm(snapshot: Snapshot) -> Array:
    return tree_norm(snapshot.slope if snapshot.gradient is None else snapshot.gradient)


def _distance(snapshot: Snapshot) -> Array:
    return tree_norm(tree_sub(snapshot.arrays, snapshot.origin))


def _dissipated(snapshot: Snapshot) -> Array:
    assert snapshot.dissipated is not None
    return snapshot.dissipated


def _energy(snapshot: Snapshot) -> Array:
    assert snapshot.energy is not None
    return snapshot.energy


LOSS = Observable("loss", _loss, label="loss")
GRAD_NORM = Observable("grad_norm", _grad_norm, label="gradient norm")
DISTANCE = Observable("distance", _distance, label="distance travelled")
DISSIPATED = Observable("dissipated", _dissipated, label="integral of squared gradient norm")
# Of a field that dissipates something else than the loss.
ENERGY = Observable("flow_energy", _energy, label="energy of the flow")
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
    asked: Sequence[Observable] = (),
    automatic: Sequence[Observable] = (),
) -> tuple[Observable, ...]:
    """All that a run of `problem` records: the common quantities, the problem's own, and others.

    Args:
        problem: what is solved.
        extra: observables, or plain functions ``(t, params, data)`` by name.
        asked: further observables.
        automatic: those that nobody asked for, each left out where its name, or that of an axis
            of its, is taken.

    Returns:
        The observables, every name once.

    Raises:
        ValueError: two observables of one name, or one that this problem does not admit.
        TypeError: `extra` holds something else.
    """
    common = COMMON if problem.has_loss else (DISTANCE,)
    if isinstance(extra, Mapping):
        extra = [Observable(name, _Plain(function)) for name, function in extra.items()]
    every = (*common, *problem.observables, *extra, *asked)
    names: set[str] = set()
    for observable in every:
        if not isinstance(observable, Observable):
            raise TypeError(
                f"observables are Observable objects, or a mapping from names to functions "
                f"(t, params, data); got {observable!r}"
            )
        parts = (part.name for part in observable.variables)
        for name in dict.fromkeys((observable.name, *parts)):
            if name in names:
                raise ValueError(f"two observables are called {name!r}; rename one")
            names.add(name)
        if observable.cost is not None:
            observable.cost(problem)  # raises where it cannot be had
    taken = names.union(*map(_axis_names, every))
    free = (o for o in automatic if taken.isdisjoint({o.name, *_axis_names(o)}))
    return (*every, *free)


def _axis_names(observable: Observable) -> set[str]:
    return {axis for part in observable.variables for axis, _ in part.axes}
