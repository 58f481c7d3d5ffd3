"""The arrays of a pytree on the host, and back in their places on the device."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ._devices import fetched, put, spread


def packed(tree: PyTree) -> list[np.ndarray]:
    """The arrays of a pytree, in the order of its leaves; of random keys what they consist of."""
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    return fetched([jax.random.key_data(x) if _is_key(x) else x for x in leaves])


def unpacked(arrays: list[np.ndarray], like: PyTree) -> PyTree:
    """The pytree that was packed.

    Args:
        arrays: from `packed`, bit for bit.
        like: a pytree of the same structure, whose arrays have the same shapes and dtypes and lie
            where the result is to lie.

    Raises:
        ValueError: they do not fit.
    """
    dynamic, static = eqx.partition(like, eqx.is_array)
    leaves, structure = jax.tree.flatten(dynamic)
    if len(arrays) != len(leaves):
        raise ValueError(f"{len(arrays)} arrays for {len(leaves)} places")
    put = [_placed(array, leaf) for array, leaf in zip(arrays, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(structure, put), static)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _placed(array: np.ndarray, leaf: Array) -> Array:
    if _is_key(leaf):
        impl: Any = jax.random.key_impl(leaf)
        return jax.random.wrap_key_data(jax.device_put(array), impl=impl)
    # A dtype that NumPy does not know, such as bfloat16, comes from a file as its bytes alone.
    array = array.view(leaf.dtype) if array.dtype.kind == "V" else array
    if (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
        raise ValueError(
            f"{array.dtype} of shape {array.shape} for {leaf.dtype} of shape {leaf.shape}"
        )
    # Where there is only one device it is not named: computations stay free to choose it.
    return put(array, leaf.sharding) if spread(leaf) else jax.device_put(array)
