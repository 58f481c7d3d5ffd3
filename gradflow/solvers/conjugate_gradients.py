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
        definite: false where the search ended at a direction of too little curvature.
    """

    x: PyTree
    products: Int[Array, ""]
    definite: Bool[Array, ""]


class _Search(NamedTuple):
    x: PyTree
    residual: PyTree
    direction: PyTree
    square: Float[Array, ""]  # of the residual
    products: Int[Array, ""]
    definite: Bool[Array, ""]


def conjugate_gradients(
    product: Callable[[PyTree], PyTree],
    right: PyTree,
    target: Float[Array, ""],
    curvature: float,
) -> Solved:
    """Solve A x = right for a symmetric A, from x = 0 (Hestenes & Stiefel 1952).

    Not `lineax.CG`: that one goes on through negative curvature, takes products that it does
    not count, and traces the operator three times.

    Args:
        product: v to A v.
        right: the right-hand side; any pytree.
        target: stop once |right - A x|_2 is at most this.
        curvature: give up at a direction p with p^T A p below this times p^T p; there A has an
            eigenvalue below it.

    Returns:
        The solution; after `MAX_PRODUCTS` the best there is.
    """
    limit = jnp.square(target)

    def unfinished(search: _Search) -> Bool[Array, ""]:
        return (search.square > limit) & search.definite & (search.products < MAX_PRODUCTS)

    def iterate(search: _Search) -> _Search:
        p = search.direction
        image = product(p)
        bend = tree_dot(p, image)
        definite = bend > curvature * tree_dot(p, p)
        # A direction that is refused is not gone along.
        length = jnp.where(definite, search.square / bend, 0)
        residual = tree_axpy(-length, image, search.residual)
        square = tree_dot(residual, residual)
        return _Search(
            tree_axpy(length, p, search.x),
            residual,
            tree_axpy(square / search.square, p, residual),
            square,
            search.products + 1,
            definite,
        )

    zero = jax.tree.map(jnp.zeros_like, right)
    begin = _Search(
        zero, right, right, tree_dot(right, right), jnp.zeros((), jnp.int32), jnp.asarray(True)
    )
    end = jax.lax.while_loop(unfinished, iterate, begin)
    return Solved(end.x, end.products, end.definite)
