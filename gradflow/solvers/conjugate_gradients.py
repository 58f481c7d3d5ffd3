"""Conjugate gradients that count their products and notice where a matrix is not definite."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._linalg import tree_axpy, tree_dot

MAX_PRODUCTS = 2000


class Solved(NamedTuple):
    """What conjugate gradients found.

    Attributes:
        x: the solution, in the structure of the right-hand side.
        products: matrix-vector products spent.
        definite: false where the search ended because an eigenvalue is too small.
    """

    x: PyTree
    products: Int[Array, ""]
    definite: Bool[Array, ""]


class _Search(NamedTuple):
    x: PyTree
    residual: PyTree
    direction: PyTree
    square: Float[Array, ""]  # of the residual
    shift: Float[Array, ""]
    products: Int[Array, ""]
    definite: Bool[Array, ""]


def conjugate_gradients(
    product: Callable[[PyTree], PyTree],
    right: PyTree,
    target: Float[Array, ""],
    least: float | Float[Array, ""],
) -> Solved:
    """Solve A x = right for a symmetric A, from x = 0 (Hestenes & Stiefel 1952).

    Of the tridiagonal matrix T that A is in the Krylov space so far, the method computes the
    pivots p^T A p / r^T r. Those of T - least, which are all positive just where T has no
    eigenvalue below `least`, are smaller by a shift that follows from one to the next by
    the differential quotient-difference algorithm, at the cost of a few scalars.

    Not `lineax.CG`: that one goes on through negative curvature, takes products that it does
    not count, and traces the operator three times.

    Args:
        product: v to A v.
        right: the right-hand side; any pytree.
        target: stop once |right - A x|_2 is at most this.
        least: give up once A is seen to have an eigenvalue below this.

    Returns:
        The solution; after `MAX_PRODUCTS`, or where A is not definite, as far as it got.
    """
    limit = jnp.square(target)

    def unfinished(search: _Search) -> Bool[Array, ""]:
        return (search.square > limit) & search.definite & (search.products < MAX_PRODUCTS)

    def iterate(search: _Search) -> _Search:
        p = search.direction
        image = product(p)
        length = search.square / tree_dot(p, image)
        pivot = 1 - length * search.shift
        # Also false where something is not a number.
        definite = (length > 0) & (pivot > 0)
        length = jnp.where(definite, length, 0)
        residual = tree_axpy(-length, image, search.residual)
        square = tree_dot(residual, residual)
        ratio = square / search.square
        return _Search(
            tree_axpy(length, p, search.x),
            residual,
            tree_axpy(ratio, p, residual),
            square,
            least + ratio * search.shift / pivot,
            search.products + 1,
            definite,
        )

    square = tree_dot(right, right)
    begin = _Search(
        jax.tree.map(jnp.zeros_like, right),
        right,
        right,
        square,
        jnp.full_like(square, least),
        jnp.zeros((), jnp.int32),
        jnp.asarray(True),
    )
    end = jax.lax.while_loop(unfinished, iterate, begin)
    return Solved(end.x, end.products, end.definite)
