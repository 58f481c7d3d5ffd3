"""A quantity recorded along a run, and the moment of the run that it is read from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..problem import Problem
from ..save_times import SaveTimes


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

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> w = problem.params
    >>> snapshot = gf.Snapshot(problem.bare(), 0.0, w, origin=w, slope=-w, data=problem.data)
    >>> float(snapshot.params), float(snapshot.slope)  # what an observable may be tried on
    (1.0, -1.0)
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


Axes = tuple[tuple[str, tuple[str | int | float, ...]], ...]


@dataclass(frozen=True)
class Part:
    """One of several arrays that an observable's function returns together.

    Attributes:
        name: what the trajectory calls it.
        axes: for every axis of the array its name and its labels.
        label: what a figure writes on its axis.
        units: units of the values, ``"1"`` when dimensionless.

    >>> import gradflow as gf
    >>> powers = gf.Observable(
    ...     "powers",
    ...     lambda snapshot: (snapshot.params, snapshot.params**2),
    ...     parts=(gf.Part("weight"), gf.Part("square", label="$w^2$")),
    ... )
    >>> [part.name for part in powers.variables]
    ['weight', 'square']
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

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> speed = gf.Observable("speed", lambda snapshot: abs(snapshot.slope), label="$|w'|$")
    >>> descent = gf.descend(problem, learning_rate=0.5, steps=2, observables=[speed])
    >>> descent["speed"]  # |w| itself
    array([1.  , 0.5 , 0.25])
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
    """A scalar function of a `Snapshot` whose zero crossings are located along a run.

    Attributes:
        name: the key of its crossings in `Trajectory.crossings`, rows ``(time, +1 or -1)``.
        function: from a `Snapshot` to a real scalar, shape ``()``. Two events with the same
            function are the same to the compiler.

    >>> import gradflow as gf
    >>> import optax
    >>> half = gf.Event("half", lambda snapshot: snapshot.params - 0.5)
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0, events=[half])
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> flow.crossings["half"].round(3)  # where it falls through zero: log(2)
    array([[ 0.693, -1.   ]])
    """

    name: str
    function: Callable[[Snapshot], Float[Array, ""]]

    @property
    def reading(self) -> Reading:
        """What the compiled program knows of it."""
        return Reading(self.function)
