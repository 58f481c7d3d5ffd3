"""Observables from plain functions ``(t, params, data)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._blame import check_call, place, trace
from ..problem import Problem
from ..save_times import SaveTimes
from .observable import Axes, Observable, Part, Snapshot

Function = Callable[[Float[Array, ""], Any, Any], "Array | Mapping[str, Array]"]
Coords = Sequence[str | int | float]
# One for all that the function returns, or by the keys of the mapping that it returns.
Dims = Sequence[str] | Mapping[str, Sequence[str]]
Text = str | Mapping[str, str]


@dataclass(frozen=True)
class PlainObservable:
    """A function ``(t, params, data)`` to be recorded; `gradflow.observable` makes them.

    What it returns is known once there is a problem to evaluate it for: see `of`.
    """

    function: Function
    name: str
    dims: Any
    coords: tuple[tuple[str, tuple[str | int | float, ...]], ...]
    label: Any
    units: Any
    save: SaveTimes | None

    def __call__(self, t: Float[Array, ""], params: Any, data: Any) -> Any:
        """The function's own value."""
        return self.function(t, params, data)

    def of(self, problem: Problem) -> Observable:
        """The observable that this is along runs of `problem`.

        Raises:
            TypeError: it returns something else than real arrays.
            ValueError: the axes that it was given are not those of what it returns.
        """
        time = jax.ShapeDtypeStruct((), problem.dtype)

        def evaluate(t: Any, params: PyTree, data: PyTree) -> Any:
            value = self.function(t, problem.model(params), data)
            several = isinstance(value, Mapping)
            if several and not value:
                raise TypeError(self._told("must return an array, or a dict of them, got none"))
            for key, each in value.items() if several else ((None, value),):
                self._check(key, each)
            return dict(value) if several else jnp.asarray(value)

        shapes = trace(self.function, jax.eval_shape, evaluate, time, problem.params, problem.data)
        self._check_names(shapes)
        if not isinstance(shapes, dict):
            axes, label, units = self._axes(None, shapes.shape), self.label, self.units
            told = [
                f"{what} is a mapping, and it returns a single array"
                for what, given in (("dims", self.dims), ("label", label), ("units", units))
                if isinstance(given, tuple) and given and isinstance(given[0], tuple)
            ]
            if told:
                raise ValueError(self._told(told[0]))
            return Observable(self.name, _One(self.function), axes, label, units, save=self.save)
        keys = tuple(shapes)
        parts = tuple(
            Part(
                key,
                self._axes(key, shapes[key].shape),
                _for_key(self.label, key) or "",
                _for_key(self.units, key) or "1",
            )
            for key in keys
        )
        return Observable(self.name, _Several(self.function, keys), parts=parts, save=self.save)

    def _check(self, key: str | None, value: Any) -> None:
        what = "" if key is None else f" for {key!r}"
        if key is not None and not (isinstance(key, str) and key.isidentifier()):
            allowed = "names of letters, digits and _"
            raise TypeError(self._told(f"the keys that it returns must be {allowed}; got {key!r}"))
        if isinstance(value, Mapping):
            raise TypeError(self._told(f"must return an array{what}, got a mapping in a mapping"))
        try:
            array = jnp.asarray(value)
        except (TypeError, ValueError):
            array = None
        if value is None or array is None or jnp.issubdtype(array.dtype, jnp.complexfloating):
            got = "None" if value is None else type(value).__name__
            got = f"an array of {array.dtype}" if array is not None else got
            hint = "; does it end without return?" if value is None else ""
            raise TypeError(
                self._told(f"must return a real array, or a dict of them{what}, got {got}{hint}")
            )

    def _check_names(self, shapes: Any) -> None:
        """Whatever was said of a key or of an axis is of one that there is."""
        keys = list(shapes) if isinstance(shapes, dict) else []
        for what in ("dims", "label", "units"):
            for name in _by_key(getattr(self, what)):
                if keys and name not in keys:
                    message = f"{what} has {name!r}, and it returns {', '.join(keys)}"
                    raise ValueError(self._told(message))
        axes = [axis for dims in _by_key(self.dims).values() or [self.dims] for axis in dims]
        for name, _ in self.coords:
            if name not in axes:
                message = (
                    f"coords has {name!r}, and the axes in dims are {', '.join(axes) or 'none'}"
                )
                raise ValueError(self._told(message))

    def _axes(self, key: str | None, shape: tuple[int, ...]) -> Axes:
        """Every axis with its labels; those that were not named are named after the variable."""
        name = key or self.name
        dims = _for_key(self.dims, key) if key is not None else self.dims
        if dims and len(dims) != len(shape):
            raise ValueError(
                self._told(f"{name!r} is of shape {shape}, and dims has {', '.join(dims)}")
            )
        dims = dims or tuple(f"{name}_{i}" for i in range(len(shape)))
        coords = dict(self.coords)
        axes = tuple((dim, coords.get(dim, range(n))) for dim, n in zip(dims, shape, strict=True))
        for (dim, labels), size in zip(axes, shape, strict=True):
            if len(labels) != size:
                raise ValueError(
                    self._told(f"the axis {dim!r} has {size} entries and coords {len(labels)}")
                )
        return tuple((dim, tuple(labels)) for dim, labels in axes)

    def _told(self, message: str) -> str:
        at = f" ({at})" if (at := place(self.function)) else ""
        return f"observable {self.name!r}: {message}{at}"


@dataclass(frozen=True)
class _One:
    """A function that returns one array, of a snapshot."""

    function: Function

    def __call__(self, snapshot: Snapshot) -> Array:
        return jnp.asarray(self.function(snapshot.time, snapshot.params, snapshot.data))


@dataclass(frozen=True)
class _Several:
    """A function that returns a mapping, of a snapshot and as a tuple."""

    function: Function
    keys: tuple[str, ...]

    def __call__(self, snapshot: Snapshot) -> tuple[Array, ...]:
        value: Any = self.function(snapshot.time, snapshot.params, snapshot.data)
        return tuple(value[key] for key in self.keys)


@overload
def observable(function: Function, /) -> PlainObservable: ...
@overload
def observable(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    dims: Dims = (),
    coords: Mapping[str, Coords] | None = None,
    label: Text = "",
    units: Text = "1",
    save: SaveTimes | None = None,
) -> Any: ...


def observable(
    function: Function | None = None,
    /,
    *,
    name: str | None = None,
    dims: Dims = (),
    coords: Mapping[str, Coords] | None = None,
    label: Text = "",
    units: Text = "1",
    save: SaveTimes | None = None,
) -> Any:
    """A plain function as an observable; a decorator, with or without arguments.

    Args:
        function: from the time, the parameters in the structure that the problem was given, and
            the data, to a real array of fixed shape, or to a dict of such arrays, each of which is
            recorded under its key.
        name: what the trajectory calls it; the function's own name if not given.
        dims: the names of the array's axes; of a dict by key.
        coords: labels of an axis, by its name; counted from 0 if not given.
        label: what a figure writes on its axis; of a dict by key.
        units: units of the values, ``"1"`` when dimensionless; of a dict by key.
        save: when to record it, if not whenever the run records.

    Returns:
        A `PlainObservable`, which can still be called as the function itself.

    Raises:
        TypeError: it is no function.

    >>> import gradflow as gf
    >>> import jax.numpy as jnp
    >>> @gf.observable(dims=["side"], coords={"side": ["left", "right"]}, label="weight")
    ... def weights(t, params, data):
    ...     return params
    >>> problem = gf.Problem(lambda w, data: jnp.sum(w**2) / 2, jnp.ones(2), observables=[weights])
    >>> descent = gf.descend(problem, learning_rate=0.5, steps=2)
    >>> descent.sel("weights", side="left")
    array([1.  , 0.5 , 0.25])
    """
    if function is None:
        options: Any = {
            "name": name, "dims": dims, "coords": coords,
            "label": label, "units": units, "save": save,
        }  # fmt: skip
        return lambda function: observable(function, **options)
    if not callable(function):
        raise TypeError(f"an observable is a function (t, params, data), got {function!r}")
    check_call(function, ("t", "params", "data"))
    known = name or getattr(function, "__name__", "")
    if not known.isidentifier():
        raise ValueError(
            f"an observable needs a name of letters, digits and _; got {known!r}: give it by name="
        )
    if isinstance(dims, str):
        dims = (dims,)
    return PlainObservable(
        function,
        known,
        _frozen(dims),
        tuple((axis, tuple(labels)) for axis, labels in (coords or {}).items()),
        _frozen(label),
        _frozen(units),
        save,
    )


def _frozen(given: Any) -> Any:
    """The same as something that can be hashed; a mapping as pairs."""
    if isinstance(given, Mapping):
        return tuple((key, _frozen(value)) for key, value in given.items())
    return given if isinstance(given, str) else tuple(given)


def _by_key(given: Any) -> dict[str, Any]:
    """What was given by key; nothing where it was given for all."""
    return {} if isinstance(given, str) or not given or isinstance(given[0], str) else dict(given)


def _for_key(given: Any, key: str) -> Any:
    """What was given by key for this one, or for all."""
    return _by_key(given).get(key) if _by_key(given) else given
