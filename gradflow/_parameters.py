"""Users' parameters and data: what of them is trained, what is kept, and what they are in words."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

_ALLOWED = (jnp.float32, jnp.float64)


def partition(params: PyTree) -> tuple[PyTree, PyTree]:
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
                f"{name} is {described(node)}; a parameter must be a float array (convert it, or "
                "pass what is not trained as data)"
            )
        else:
            dtypes.setdefault(as_array(node).dtype, name)
    if not dtypes:
        raise TypeError("params holds no float array: there is nothing to train")
    for dtype, name in dtypes.items():
        if dtype not in _ALLOWED:
            raise TypeError(f"{name} is of dtype {dtype}; allowed are float32 and float64")
    if len(dtypes) > 1:
        listed = " but ".join(f"{name} is {dtype}" for dtype, name in dtypes.items())
        raise TypeError(f"all parameters must be of one dtype: {listed}")

    if not sum(
        np.size(leaf) for leaf in jax.tree.leaves(params) if eqx.is_inexact_array_like(leaf)
    ):
        raise TypeError(f"params holds no number, every array in it is empty: {shapes_of(params)}")
    arrays = jax.tree.map(
        lambda node: node if is_module(node) else as_array(node), params, is_leaf=is_module
    )
    return eqx.partition(arrays, eqx.is_inexact_array)


def as_array(value: Any) -> Array:
    """An array of fixed type, on the device."""
    if isinstance(value, jax.Array):
        # What a run makes of a weakly typed array is not, and would be compiled for once more.
        return jax.lax.convert_element_type(value, value.dtype) if value.weak_type else value
    # A transfer, not a computation: `jnp.asarray` would compile one for every new shape.
    return jax.device_put(np.asarray(value))


def shapes_of(tree: PyTree) -> Any:
    """The tree with the shape of each of its leaves in the leaf's place."""
    return jax.tree.map(jnp.shape, tree)


def as_data(path: tuple[Any, ...], leaf: Any) -> Any:
    """A leaf of the data, an array where it is like one.

    Raises:
        TypeError: it is text, or an array of something else than numbers.
    """
    if isinstance(leaf, str) or (isinstance(leaf, np.ndarray) and leaf.dtype.kind not in "biufc"):
        name = "data" + jax.tree_util.keystr(path)
        raise TypeError(
            f"{name} is {described(leaf)}; data must be numbers: encode it, or close over it"
        )
    return as_array(leaf) if eqx.is_array_like(leaf) else leaf


def described(leaf: Any) -> str:
    """A leaf in words."""
    if eqx.is_array(leaf) or isinstance(leaf, np.ndarray):
        return f"an array of dtype {leaf.dtype}"
    return f"{leaf!r} ({type(leaf).__name__})"


def kind(value: Any) -> str:
    """What arrived, in words that stay short however large it is."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"{type(value).__name__}"
