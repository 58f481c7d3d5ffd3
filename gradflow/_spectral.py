"""What products with a symmetric matrix tell of its spectrum; vectors are flat."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

Product = Callable[[Float[Array, " n"]], Float[Array, " n"]]

# Of the largest eigenvalue: what is not known of any after so many inner products.
_ROUNDINGS = 16


def hessian(loss: Callable[[PyTree], Float[Array, ""]], params: PyTree) -> Product:
    """The function that multiplies the Hessian of `loss` at `params` with a vector.

    Forward over reverse (Pearlmutter 1994); the gradient is linearised once for all products.
    """
    flat, unravel = ravel_pytree(params)
    return jax.linearize(jax.grad(lambda x: loss(unravel(x))), flat)[1]


def signs(key: Array, like: Float[Array, " n"]) -> Float[Array, " n"]:
    """Independent signs, +1 or -1, as many as `like` has entries."""
    return jax.random.rademacher(key, like.shape, like.dtype)


def direction(key: Array, like: Float[Array, " n"]) -> Float[Array, " n"]:
    """A unit vector, all directions equally likely."""
    return unit(jax.random.normal(key, like.shape, like.dtype))


def unit(vector: Float[Array, " n"]) -> Float[Array, " n"]:
    """The vector divided by its Euclidean norm."""
    return vector / jnp.linalg.norm(vector)


class Ritz(NamedTuple):
    """Approximate eigenpairs from a Krylov space, by descending value.

    Attributes:
        values: the Ritz values.
        residuals: |A y - value y|_2 for the Ritz vector y, and what rounding adds: within this
            distance of the value lies an eigenvalue of A.
        rotation: the coefficients of the Ritz vectors in `basis`, those of one in a column.
        basis: orthonormal vectors, one in a row, that span the Krylov space.
    """

    values: Float[Array, " m"]
    residuals: Float[Array, " m"]
    rotation: Float[Array, "m m"]
    basis: Float[Array, "m n"]

    @property
    def vectors(self) -> Float[Array, "m n"]:
        """The Ritz vectors, one in a row."""
        return self.rotation.T @ self.basis

    @property
    def weights(self) -> Float[Array, " m"]:
        """Of the Gauss rule sum_i weights_i f(values_i) for v^T f(A) v, v the unit start."""
        return self.rotation[0] ** 2

    def sum(self, k: int) -> Float[Array, " n"]:
        """The sum of the first `k` Ritz vectors."""
        return jnp.sum(self.rotation[:, :k], axis=1) @ self.basis


def lanczos(
    product: Product, start: Float[Array, " n"], noise: Float[Array, " n"], steps: int
) -> Ritz:
    """Ritz pairs from `steps` products, by Lanczos' method with full reorthogonalisation.

    The extreme eigenvalues converge first (Saad, Numerical methods for large eigenvalue
    problems, 2nd ed., Section 6.6). Where a Krylov space is exhausted, as it is early for a
    matrix of few distinct eigenvalues, the method goes on from a random direction orthogonal to
    it, and so finds further copies of multiple eigenvalues too.

    Args:
        product: multiplies a symmetric matrix A with a vector.
        start: where the Krylov space begins, not zero.
        noise: a random vector, which further directions are made of.
        steps: its dimension, at most n; as many vectors are kept.
    """
    dtype = start.dtype
    eps = jnp.finfo(dtype).eps

    def outside(basis, vector):
        return vector - (basis @ vector) @ basis

    def step(j, carry):
        basis, diagonal, below, scale, vector = carry
        basis = basis.at[j].set(vector)
        image = product(vector)
        scale = jnp.maximum(scale, jnp.linalg.norm(image))
        once = outside(basis, image)
        twice = outside(basis, once)
        size = jnp.linalg.norm(twice)
        # Twice is enough, if it is not the second time too that most of the vector goes: what
        # is left then is rounding, along the basis as much as across (Kahan and Parlett, in
        # Parlett, The symmetric eigenvalue problem, Section 6.9). To divide by it would put
        # Ritz values far above any eigenvalue.
        new = (size > jnp.linalg.norm(once) / 2) & (size > eps * scale)

        def elsewhere():
            other = outside(basis, jnp.roll(noise, j))
            return unit(outside(basis, other)), jnp.zeros_like(size)

        following, size = jax.lax.cond(new, lambda: (twice / size, size), elsewhere)
        diagonal = diagonal.at[j].set(jnp.vdot(vector, image))
        return basis, diagonal, below.at[j].set(size), scale, following

    basis = jnp.zeros((steps, start.size), dtype)
    zeros = jnp.zeros(steps, dtype)
    carry = (basis, zeros, zeros, jnp.zeros((), dtype), unit(start))
    basis, diagonal, below, *_ = jax.lax.fori_loop(0, steps, step, carry)
    off = below[:-1]
    values, rotation = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(off, 1) + jnp.diag(off, -1))
    values, rotation = values[::-1], rotation[:, ::-1]
    rounding = _ROUNDINGS * eps * jnp.max(jnp.abs(values))
    residuals = below[-1] * jnp.abs(rotation[-1]) + rounding
    return Ritz(values, residuals, rotation, basis)


class Trace(NamedTuple):
    """Estimates from products with random signs z.

    Attributes:
        value: of the trace, the mean of z^T A z (Hutchinson 1990).
        error: its standard error.
        square: of the trace of A^2, the mean of |A z|^2.
    """

    value: Float[Array, ""]
    error: Float[Array, ""]
    square: Float[Array, ""]


def trace(product: Product, like: Float[Array, " n"], key: Array, probes: int) -> Trace:
    """The traces of A and of A^2 from `probes` products, one after the other."""

    def probe(key: Array) -> tuple[Array, Array]:
        vector = signs(key, like)
        image = product(vector)
        return jnp.vdot(vector, image), jnp.vdot(image, image)

    values, squares = jax.lax.map(probe, jax.random.split(key, probes))
    return Trace(*mean_and_error(values), jnp.mean(squares))


def mean_and_error(samples: Float[Array, " n"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean of independent samples, and its standard error."""
    return jnp.mean(samples), jnp.std(samples, ddof=1) / samples.size**0.5
