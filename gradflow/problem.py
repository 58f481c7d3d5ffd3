"""A problem: a loss, the parameters it starts from, and the data it sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

_ALLOWED = (jnp.float32, jnp.float64)


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
        observables: what is recorded on the way, beside the loss: `gradflow.Observable`.
        events: what is located on the way: `gradflow.Event`.

    Raises:
        TypeError: not exactly one of `loss`, `sample_loss` and `vector_field`; a parameter that
            is no float array; a loss of the wrong shape.
    """

    params: PyTree
    static: PyTree
    data: PyTree
    _loss: Callable | None
    _sample_loss: Callable | None
    _vector_field: Callable | None
    observables: tuple[Any, ...]
    events: tuple[Any, ...]

    def __init__(
        self,
        loss: Callable[[Any, Any], Float[Array, ""]] | None = None,
        params: PyTree = None,
        data: PyTree = None,
        *,
        sample_loss: Callable[[Any, Any], Float[Array, " n"]] | None = None,
        vector_field: Callable[[Any, Any, Any], PyTree] | None = None,
        observables: tuple[Any, ...] = (),
        events: tuple[Any, ...] = (),
    ):
        given = [f for f in (loss, sample_loss, vector_field) if f is not None]
        if len(given) != 1:
            raise TypeError(
                f"a problem takes exactly one of loss, sample_loss and vector_field; got "
                f"{len(given)}"
            )
        if not callable(given[0]):
            raise TypeError(f"the loss must be a function (params, data), got {given[0]!r}")
        self.params, self.static = _partition(params)
        self.data = jax.tree.map(lambda x: _as_array(x) if eqx.is_array_like(x) else x, data)
        self._loss, self._sample_loss, self._vector_field = loss, sample_loss, vector_field
        self.observables, self.events = tuple(observables), tuple(events)
        self._check_outputs()

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the parameters."""
        return jax.tree.leaves(self.params)[0].dtype

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
        """The problem's functions alone, without parameters and data."""
        return eqx.tree_at(
            lambda p: (p.params, p.data), self, (None, None), is_leaf=lambda x: x is None
        )

    def without_events(self) -> Problem:
        """The same, with nothing to be located on the way."""
        return eqx.tree_at(lambda p: p.events, self, (), is_leaf=lambda x: isinstance(x, tuple))

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
            return self._loss(model, data)
        if self._sample_loss is not None:
            return jnp.mean(self._sample_loss(model, data))
        raise TypeError("this problem is a vector field and has no loss")

    def sample_losses(self, params: PyTree, data: PyTree) -> Float[Array, " n"]:
        """The loss of every sample at `params`, which are arrays as in `Problem.params`.

        Raises:
            TypeError: the problem was not given as a `sample_loss`.
        """
        if self._sample_loss is None:
            raise TypeError("this problem has no sample_loss")
        return self._sample_loss(self.model(params), data)

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
            slope = jax.eval_shape(self.vector_field, time, self.params, self.data)
            expected = jax.eval_shape(lambda: self.params)
            if jax.tree.structure(slope) != jax.tree.structure(expected) or any(
                a.shape != b.shape
                for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(expected), strict=True)
            ):
                raise TypeError(
                    "the vector field must return the structure and shapes of the parameters: "
                    f"got {slope}, expected {expected}"
                )
            return
        if self._sample_loss is not None:
            function = self._sample_loss
            name, allowed, rank = "sample_loss", "one value for each sample, shape (n,)", 1
        else:
            function = cast(Callable, self._loss)
            name, allowed, rank = "loss", "a real scalar, shape ()", 0
        value = eqx.filter_eval_shape(function, self.model(self.params), self.data)
        if (
            not isinstance(value, jax.ShapeDtypeStruct)
            or value.ndim != rank
            or not jnp.issubdtype(value.dtype, jnp.floating)
        ):
            got = (
                f"shape {value.shape} of {value.dtype}"
                if isinstance(value, jax.ShapeDtypeStruct)
                else repr(value)
            )
            vector = name == "loss" and getattr(value, "ndim", 0) == 1
            hint = "; pass it as sample_loss=, whose mean is the loss" if vector else ""
            raise TypeError(f"{name} must return {allowed}, got {got}{hint}")


def _partition(params: PyTree) -> tuple[PyTree, PyTree]:
    """Split into trained arrays and kept leaves; outside of modules every leaf is trained."""

    def is_module(node: Any) -> bool:
        return isinstance(node, eqx.Module)

    dtypes: dict[Any, str] = {}
    for path, node in jax.tree_util.tree_leaves_with_path(params, is_leaf=is_module):
        name = "params" + jax.tree_util.keystr(path)
        if is_module(node):
            for inner, leaf in jax.tree_util.tree_leaves_with_path(node):
                if eqx.is_inexact_array(leaf):
                    dtypes.setdefault(jnp.dtype(leaf.dtype), name + jax.tree_util.keystr(inner))
        elif not eqx.is_inexact_array_like(node):
            raise TypeError(
                f"{name} is {_describe(node)}; a parameter must be a float array (convert it, or "
                "pass what is not trained as data)"
            )
        else:
            dtypes.setdefault(_as_array(node).dtype, name)
    if not dtypes:
        raise TypeError("params holds no float array: there is nothing to train")
    for dtype, name in dtypes.items():
        if dtype not in _ALLOWED:
            raise TypeError(f"{name} is of dtype {dtype}; allowed are float32 and float64")
    if len(dtypes) > 1:
        listed = " but ".join(f"{name} is {dtype}" for dtype, name in dtypes.items())
        raise TypeError(f"all parameters must be of one dtype: {listed}")

    arrays = jax.tree.map(
        lambda node: node if is_module(node) else _as_array(node), params, is_leaf=is_module
    )
    return eqx.partition(arrays, eqx.is_inexact_array)


def _as_array(value: Any) -> Array:
    if isinstance(value, jax.Array):
        # What a run makes of a weakly typed array is not, and would be compiled for once more.
        return jax.lax.convert_element_type(value, value.dtype) if value.weak_type else value
    # A transfer, not a computation: `jnp.asarray` would compile one for every new shape.
    return jax.device_put(np.asarray(value))


def _describe(leaf: Any) -> str:
    if eqx.is_array(leaf):
        return f"an array of dtype {leaf.dtype}"
    return f"{leaf!r} ({type(leaf).__name__})"
