"""A problem: a loss, the parameters it starts from, and the data it sees."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ._blame import check_call, place, trace
from ._parameters import as_data, described, kind, partition, shapes_of

# Tracing a loss takes milliseconds, and an ensemble builds the same problem for every seed.
_last_checked: dict[str, Any] = {}


class Problem(eqx.Module):
    """A loss L(params, data), initial parameters and data; or any vector field.

    Data is an argument of the loss, never a constant it closes over: it is not baked into the
    compiled program, may be exchanged for data of the same shapes without compiling again, and
    can be sharded.

    Args:
        loss: ``loss(params, data)``, a real scalar.
        params: a pytree of float32 or float64 arrays, all of one dtype. Where it holds an
            `equinox.Module`, the module's inexact arrays are trained and its other leaves kept.
        data: a pytree of arrays, handed to every function; ``None`` if there is none.
        sample_loss: instead of `loss`, ``sample_loss(params, data)`` of shape ``(n,)``; the
            loss is its mean.
        vector_field: instead of a loss, ``vector_field(t, params, data)``, the time derivative
            of `params`, in the same structure. Such a problem can be solved, not descended.
        observables: what is recorded on the way, beside the loss: `gradflow.Observable` objects,
            or functions ``(t, params, data)``, see `gradflow.observable`, in a list or by name.
        events: what is located on the way: `gradflow.Event`.

    Raises:
        TypeError: not exactly one of `loss`, `sample_loss` and `vector_field`; a parameter that
            is no float array; data that are no arrays; a loss of the wrong shape, or one that
            cannot be differentiated.

    >>> import jax.numpy as jnp
    >>> import gradflow as gf
    >>> def loss(params, data):
    ...     return jnp.mean((params["slope"] * data - 3.0) ** 2)
    >>> problem = gf.Problem(loss, {"slope": jnp.zeros(2)}, data=jnp.ones(2))
    >>> problem.size, problem.has_loss, float(problem.loss(problem.params, problem.data))
    (2, True, 9.0)
    """

    params: PyTree
    static: PyTree
    data: PyTree
    _loss: Callable | None
    _sample_loss: Callable | None
    _vector_field: Callable | None
    observables: tuple[Any, ...] | Mapping[str, Any]
    events: tuple[Any, ...]

    def __init__(
        self,
        loss: Callable[[Any, Any], Float[Array, ""]] | None = None,
        params: PyTree = None,
        data: PyTree = None,
        *,
        sample_loss: Callable[[Any, Any], Float[Array, " n"]] | None = None,
        vector_field: Callable[[Any, Any, Any], PyTree] | None = None,
        observables: Sequence[Any] | Mapping[str, Any] = (),
        events: Sequence[Any] = (),
    ):
        given = [f for f in (loss, sample_loss, vector_field) if f is not None]
        if len(given) != 1:
            raise TypeError(
                f"a problem takes exactly one of loss, sample_loss and vector_field; got "
                f"{len(given)}"
            )
        if not callable(given[0]):
            raise TypeError(f"the loss must be a function (params, data), got {given[0]!r}")
        taken = ("t", "params", "data") if vector_field is not None else ("params", "data")
        check_call(given[0], taken)
        self.params, self.static = partition(params)
        self.data = jax.tree_util.tree_map_with_path(as_data, data)
        self._loss, self._sample_loss, self._vector_field = loss, sample_loss, vector_field
        named = isinstance(observables, Mapping)
        self.observables = dict(observables) if named else tuple(observables)
        self.events = tuple(events)
        self._check_outputs()

    @classmethod
    def from_model(
        cls,
        model: Callable[[Any], Any],
        loss: Callable[[Any, Any], Float[Array, ""]],
        data: tuple[Any, Any],
        *,
        observables: Sequence[Any] | Mapping[str, Any] = (),
        events: Sequence[Any] = (),
    ) -> Problem:
        """The average over samples of what `loss` says of the model's outputs.

        Args:
            model: maps one input to one output, e.g. an `equinox.Module`; its inexact arrays are
                trained.
            loss: of one output and its target, a real scalar, e.g. a loss of `optax`.
            data: inputs and targets, pytrees of arrays whose first axis runs over the samples.
            observables: as for `Problem`; they see the model and the data.
            events: as for `Problem`.

        Raises:
            TypeError: as for `Problem`.
            ValueError: inputs and targets are not of one length.

        >>> import equinox as eqx, jax, jax.numpy as jnp, optax
        >>> import gradflow as gf
        >>> model = eqx.nn.MLP(2, "scalar", 4, 1, key=jax.random.key(0))
        >>> data = jnp.ones((5, 2)), jnp.zeros(5)
        >>> gf.Problem.from_model(model, optax.l2_loss, data).size
        17
        """
        if not callable(loss):
            raise TypeError(
                f"the loss must be a function (output, target), such as optax.l2_loss; got {loss!r}"
            )
        if not callable(model):
            raise TypeError(f"the model must be a function of one input, got {described(model)}")
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise TypeError(f"data must be a pair (inputs, targets), got {kind(data)}")
        inputs, targets = ({np.shape(leaf)[:1] for leaf in jax.tree.leaves(d)} for d in data)
        if len(inputs | targets) != 1 or inputs & {(), (0,)}:
            told = ", ".join(str(shapes_of(d)) for d in data)
            raise ValueError(
                "the first axis of inputs and of targets runs over the samples and must be of one "
                f"length, 1 at least; got {told}"
            )
        return cls(
            sample_loss=_ModelLoss(loss),
            params=model,
            data=tuple(data),
            observables=observables,
            events=events,
        )

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the parameters."""
        return jax.tree.leaves(self.params)[0].dtype

    @property
    def place(self) -> str:
        """Where its loss, or its vector field, was defined, ``FILE:LINE``; empty if unknown."""
        given = (self._loss, self._sample_loss, self._vector_field)
        return next(place(function) for function in given if function is not None)

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    @property
    def has_loss(self) -> bool:
        """False for a problem that was given as a vector field."""
        return self._vector_field is None

    @property
    def has_samples(self) -> bool:
        """Whether the loss was given sample by sample."""
        return self._sample_loss is not None

    def bare(self) -> Problem:
        """The problem's functions alone, without parameters, data and what is watched."""
        return self._with(params=None, data=None, observables=(), events=())

    def without_events(self) -> Problem:
        """The same, with nothing to be located on the way."""
        return self._with(events=())

    def quiet(self) -> Problem:
        """The same, with nothing to be recorded or located on the way but what all runs record."""
        return self._with(observables=(), events=())

    def _with(self, **parts: Any) -> Problem:
        """The same with other parts, which are taken as they are."""
        # Not by `copy`: equinox holds on to what its own `__new__` makes.
        other = object.__new__(type(self))
        for name, part in (vars(self) | parts).items():
            object.__setattr__(other, name, part)
        return other

    def model(self, params: PyTree) -> Any:
        """The user's own structure: trained arrays put back among the leaves that are kept."""
        return eqx.combine(params, self.static)

    def loss(self, params: PyTree, data: PyTree) -> Float[Array, ""]:
        """The loss at `params`, which are arrays as in `Problem.params`.

        Raises:
            TypeError: the problem was given as a vector field.
        """
        model = self.model(params)
        if self._loss is not None:
            return _shaped(self._loss(model, data), "loss", self._loss)
        return jnp.mean(self.sample_losses(params, data))

    def sample_losses(self, params: PyTree, data: PyTree) -> Float[Array, " n"]:
        """The loss of every sample at `params`, which are arrays as in `Problem.params`.

        Raises:
            TypeError: the problem was not given as a `sample_loss`.
        """
        if self._vector_field is not None:
            raise TypeError("this problem is a vector field and has no loss")
        if self._sample_loss is None:
            raise TypeError("this problem has no sample_loss")
        values = self._sample_loss(self.model(params), data)
        return _shaped(values, "sample_loss", self._sample_loss)

    def vector_field(self, t: Float[Array, ""], params: PyTree, data: PyTree) -> PyTree:
        """d params/dt of a problem that was given as a vector field.

        Raises:
            TypeError: the problem was given as a loss.
        """
        if self._vector_field is None:
            raise TypeError("this problem has a loss; its vector field is one of gradflow.fields")
        return eqx.filter(self._vector_field(t, self.model(params), data), eqx.is_inexact_array)

    def _check_outputs(self) -> None:
        """Evaluate shapes only, so that a wrong loss is named here and not inside a solve."""
        if self._vector_field is not None:
            time = jax.ShapeDtypeStruct((), self.dtype)
            function = self._vector_field
            slope = trace(function, jax.eval_shape, self.vector_field, time, self.params, self.data)
            expected = jax.eval_shape(lambda: self.params)
            if jax.tree.structure(slope) != jax.tree.structure(expected) or any(
                a.shape != b.shape
                for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(expected), strict=True)
            ):
                raise TypeError(
                    "the vector field must return the structure and shapes of the parameters: "
                    f"got {shapes_of(slope)}, expected {shapes_of(expected)}"
                    + _defined(self._vector_field)
                )
            return
        checked = self._signature()
        if checked is None or checked != _last_checked.get("signature"):
            function: Any = self._loss if self._loss is not None else self._sample_loss
            # Twice, for it may return something else the second time.
            for each in (self.loss, jax.grad(self.loss)):
                trace(function, jax.eval_shape, each, self.params, self.data)
            _last_checked["signature"] = checked

    def _signature(self) -> tuple[Any, ...] | None:
        """What the check depends on; ``None`` where that cannot be compared."""
        leaves, structure = jax.tree.flatten((self.params, self.data, self.static))
        known = [_known(leaf) for leaf in (self._loss, self._sample_loss, *leaves)]
        return None if None in known else (structure, *known)


@dataclass(frozen=True)
class _ModelLoss:
    """The loss of every sample from that of one output and its target."""

    loss: Callable[[Any, Any], Array]

    @property
    def __wrapped__(self) -> Callable:
        """Whose line is told where something is wrong."""
        return self.loss

    def __call__(self, model: Callable[[Any], Any], data: tuple[Any, Any]) -> Float[Array, " n"]:
        def one(given: Any, target: Any) -> Array:
            value = self.loss(model(given), target)
            if jnp.shape(value):
                raise TypeError(
                    "the loss of one sample must be a scalar, got "
                    f"shape {jnp.shape(value)}; sum or average it over the output"
                    + _defined(self.loss)
                )
            return value

        return jax.vmap(one)(*data)


def _shaped(value: Any, name: str, function: Callable) -> Array:
    """What a loss returned, which is looked at whenever it is traced."""
    allowed, rank = {
        "loss": ("a real scalar, shape ()", 0),
        "sample_loss": ("one value for each sample, shape (n,)", 1),
    }[name]
    array = eqx.is_array(value)
    if array and value.ndim == rank and jnp.issubdtype(value.dtype, jnp.floating):
        return value
    got = f"shape {value.shape} of {value.dtype}" if array else kind(value)
    hint = ""
    if name == "loss" and array and value.ndim == 1:
        hint = "; pass it as sample_loss=, whose mean is the loss"
    elif value is None:
        hint = "; does it end without return?"
    elif name == "loss" and isinstance(value, tuple):
        hint = "; return the loss alone, and record the rest by observables"
    raise TypeError(f"{name} must return {allowed}, got {got}{hint}{_defined(function)}")


def _defined(function: Callable) -> str:
    """Where the user's function stands, to be put behind what is wrong with it."""
    return f" ({at})" if (at := place(function)) else ""


def expect(problem: Any) -> None:
    """Refuse what is no problem.

    Raises:
        TypeError: naming what came instead.
    """
    if not isinstance(problem, Problem):
        raise TypeError(
            f"the first argument must be a gradflow.Problem, got {kind(problem)}; make one by "
            "gradflow.Problem(loss, params, data)"
        )


def _known(leaf: Any) -> tuple[Any, ...] | None:
    """What tells a leaf from others without keeping it alive; ``None`` where nothing does."""
    if eqx.is_array(leaf):
        return leaf.shape, leaf.dtype
    if leaf is None or type(leaf) in (bool, int, float, str):
        return type(leaf), leaf
    if isinstance(leaf, types.FunctionType | _ModelLoss):
        return (weakref.ref(leaf),)
    return None
