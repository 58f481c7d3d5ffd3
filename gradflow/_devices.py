"""Arrays that lie on several devices, and what the processes that drive these agree on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding
from jaxtyping import Array, PyTree


def leads() -> bool:
    """Whether this process is the one, of those that run together, that writes and prints."""
    return jax.process_index() == 0


def agreed(number: float) -> float:
    """The first process's number, in all of them: of what each measures for itself.

    Every process has to launch the same programs with the same arguments.
    """
    if jax.process_count() == 1:
        return number
    return float(multihost_utils.broadcast_one_to_all(np.float32(number)))


def anywhere(flag: bool) -> bool:
    """Whether it is true in any of the processes, all of which must ask."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


@contextmanager
def all_or_none(error: Exception) -> Iterator[None]:
    """Raises `error` where the body succeeds and, in another process, does not."""
    try:
        yield
    except Exception:
        anywhere(True)
        raise
    if anywhere(False):
        raise error


def fetched(tree: PyTree) -> PyTree:
    """The tree with NumPy arrays, gathered where parts of them lie on other hosts' devices."""

    def here(leaf: Any) -> Any:
        away = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        if away and not leaf.is_fully_replicated:
            return multihost_utils.process_allgather(leaf, tiled=True)
        return leaf

    return jax.device_get(jax.tree.map(here, tree))


def put(array: Array | np.ndarray, sharding: Sharding) -> Array:
    """An array of this host on the devices of a sharding; all processes have the same."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    # `jax.device_put` would compare what the processes have, and find NaN different from NaN.
    here = np.asarray(array)
    return jax.make_array_from_callback(here.shape, sharding, lambda part: here[part])


def spread(tree: PyTree) -> bool:
    """Whether any array of the tree lies on more than one device."""
    arrays = (leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array))
    return any(len(leaf.sharding.device_set) > 1 for leaf in arrays)


def placed_like(params: PyTree, tree: PyTree) -> PyTree:
    """`tree`, in which every part of the structure and shapes of `params` is placed as these are.

    A compiler does not know that zeros which are to be added to the parameters later had better
    lie where these do, and would compile once more for where it then puts the sum.
    """
    if not spread(params):
        return tree
    structure, leaves = jax.tree.structure(params), jax.tree.leaves(params)

    def is_alike(node: Any) -> bool:
        return jax.tree.structure(node) == structure and all(
            eqx.is_array(a) and a.shape == b.shape
            for a, b in zip(jax.tree.leaves(node), leaves, strict=True)
        )

    def moved(node: Any) -> Any:
        if not is_alike(node):
            return node
        return jax.tree.map(lambda a, b: jax.device_put(a, b.sharding), node, params)

    return jax.tree.map(moved, tree, is_leaf=is_alike)
