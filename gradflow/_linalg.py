"""Norms and arithmetic of pytrees."""

import operator
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

# Of matrix products, which accelerators otherwise round to fewer digits than tolerances ask for.
PRECISION = "highest"


def tree_sub(x: PyTree, y: PyTree) -> PyTree:
    """x - y, leaf by leaf."""
    return jax.tree.map(operator.sub, x, y)


def tree_axpy(a, x: PyTree, y: PyTree) -> PyTree:
    """a x + y for a scalar `a`."""
    return jax.tree.map(lambda xi, yi: a * xi + yi, x, y)


def tree_scale(a, x: PyTree) -> PyTree:
    """a x for a scalar `a`."""
    return jax.tree.map(lambda xi: a * xi, x)


def tree_dot(x: PyTree, y: PyTree) -> Float[Array, ""]:
    """The Euclidean inner product over all leaves."""
    products = [_dot(a, b) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)]
    return reduce(operator.add, products)


def _dot(a: Array, b: Array) -> Float[Array, ""]:
    if a.ndim < 2:
        return jnp.vdot(a, b)
    # Products with ones, which XLA on a CPU hands to a vectorised routine; a sum it computes
    # entry by entry, which takes three times as long and a third of a gradient's time.
    product = (a * b).reshape(a.shape[0], -1)
    ones = [jnp.ones(n, product.dtype) for n in product.shape]
    columns = jnp.matmul(ones[0], product, precision=PRECISION)
    return jnp.matmul(columns, ones[1], precision=PRECISION)


def tree_norm(x: PyTree) -> Float[Array, ""]:
    """The Euclidean norm over all leaves; infinite where an entry is not finite."""
    # The selection also keeps XLA on a CPU from fusing what computes `x` into the product, for
    # which it would first write every scalar factor out as an array of that size.
    finite = jax.tree.map(lambda a: jnp.where(jnp.isfinite(a), a, jnp.inf), x)
    return jnp.sqrt(tree_dot(finite, finite))


def tree_finite(x: PyTree) -> Bool[Array, ""]:
    """Whether every entry is finite; where a norm overflows, entries can still be."""
    return reduce(operator.and_, [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(x)])


def positive(x: Float[Array, ""]) -> Float[Array, ""]:
    """x, or the least positive number of its dtype: safe to divide by."""
    return jnp.maximum(x, jnp.finfo(x.dtype).tiny)


def tree_select(condition, x: PyTree, y: PyTree) -> PyTree:
    """x where the scalar `condition` holds, y elsewhere; leaves that are not arrays from y."""
    return jax.tree.map(
        lambda a, b: jnp.where(condition, a, b) if isinstance(b, jax.Array) else b, x, y
    )


class Separation(NamedTuple):
    """How far apart two points are, seen from a third.

    Attributes:
        distance: between the two.
        travelled: of the second from the third.
        cosine: of the angle between the ways to the two; NaN where one of them is at the third.
    """

    distance: Float[Array, ""]
    travelled: Float[Array, ""]
    cosine: Float[Array, ""]

    @property
    def relative(self) -> Float[Array, ""]:
        """The distance divided by `travelled`; NaN where that is 0."""
        return self.distance / self.travelled


@jax.jit
def separation(x: PyTree, y: PyTree, origin: PyTree) -> Separation:
    """How far `x` is from `y`, both having started at `origin`."""
    way_x, way_y = tree_sub(x, origin), tree_sub(y, origin)
    travelled = tree_norm(way_y)
    cosine = tree_dot(way_x, way_y) / (tree_norm(way_x) * travelled)
    return Separation(tree_norm(tree_sub(x, y)), travelled, cosine)
