"""A problem's loss as a function of one vector, with its first two derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike

from .. import _spectral
from ..problem import Problem

_TOGETHER = 32  # Hessian-vector products of a whole Hessian: more take more memory


class Landscape(eqx.Module):
    """The loss over all parameters in one vector.

    Attributes:
        problem: its functions.
        data: what the loss sees.
        unravel: from the vector to the parameters.
    """

    problem: Problem
    data: PyTree
    unravel: Callable = eqx.field(static=True)

    def ravel(self, params: PyTree) -> Float[Array, " n"]:
        """The vector of parameters, in the structure of the problem's own."""
        return ravel_pytree(eqx.filter(params, eqx.is_inexact_array))[0]

    def loss(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        """The loss at `x`."""
        return self.problem.loss(self.unravel(x), self.data)

    def residuals(self, x: Float[Array, " n"]) -> Float[Array, " samples"]:
        """Half of whose squares add up to the loss, of a problem that has samples.

        Of squared errors they are, but for their signs, what is meant by the word.
        """
        losses = self.problem.sample_losses(self.unravel(x), self.data)
        positive = losses > 0
        return jnp.where(positive, jnp.sqrt(2 * jnp.where(positive, losses, 1) / losses.size), 0)

    def hessian(self, x: Float[Array, " n"]) -> _spectral.Product:
        """What multiplies the Hessian at `x` with a vector; one gradient, and two a product."""
        return _spectral.hessian(self.loss, x)


def distance(x: ArrayLike, y: ArrayLike) -> float:
    """|x - y|_2, on the host, where nothing is compiled for it."""
    return float(np.linalg.norm(np.asarray(x, float) - np.asarray(y, float)))


class Look(NamedTuple):
    """What one gradient evaluation tells.

    Attributes:
        loss: at the point.
        gradient: of the loss.
        norm: of the gradient.
    """

    loss: Float[Array, ""]
    gradient: Float[Array, " n"]
    norm: Float[Array, ""]


@eqx.filter_jit
def look(landscape: Landscape, x: Float[Array, " n"]) -> Look:
    """The loss and its gradient at `x`."""
    loss, gradient = jax.value_and_grad(landscape.loss)(x)
    return Look(loss, gradient, jnp.linalg.norm(gradient))


class Spectrum(NamedTuple):
    """A whole Hessian, taken apart.

    Attributes:
        matrix: the Hessian, made symmetric.
        values: its eigenvalues, ascending.
        vectors: its eigenvectors, one in a column.
        rounding: how well the eigenvalues are known: n eps |H|_2 of the decomposition, and how
            far, in the Frobenius norm, the computed matrix was from symmetric.
    """

    matrix: Float[Array, "n n"]
    values: Float[Array, " n"]
    vectors: Float[Array, "n n"]
    rounding: Float[Array, ""]


@eqx.filter_jit
def hessian(landscape: Landscape, x: Float[Array, " n"]) -> Float[Array, "n n"]:
    """The Hessian at `x`, as it is computed, by 2 n + 1 gradient evaluations."""
    units = jnp.eye(x.size, dtype=x.dtype)
    return jax.lax.map(landscape.hessian(x), units, batch_size=min(_TOGETHER, x.size))


def spectrum(landscape: Landscape, x: Float[Array, " n"]) -> Spectrum:
    """The Hessian at `x` and all its eigenvalues: 2 n + 1 gradient evaluations."""
    return _taken_apart(hessian(landscape, x))


@jax.jit
def _taken_apart(rows: Float[Array, "n n"]) -> Spectrum:
    matrix = (rows + rows.T) / 2
    values, vectors = jnp.linalg.eigh(matrix)
    least = len(rows) * jnp.finfo(rows.dtype).eps * jnp.max(jnp.abs(values))
    return Spectrum(matrix, values, vectors, least + jnp.linalg.norm(rows - rows.T))


@jax.jit
def newton_step(
    spectrum: Spectrum,
    gradient: Float[Array, " n"],
    damping: Float[Array, ""],
    least: Float[Array, ""],
) -> Float[Array, " n"]:
    """-(H + damping)^-1 gradient, along the directions whose curvature is above `least`.

    The others get a step of gradient descent at the rate of the sharpest: to divide what rounding
    has put there by a curvature of that kind would send the parameters anywhere along a manifold
    of minima.
    """
    values, vectors = spectrum.values, spectrum.vectors
    steepest = jnp.maximum(jnp.max(jnp.abs(values)), jnp.finfo(values.dtype).tiny)
    divisor = jnp.where(jnp.abs(values) > least, values, steepest) + damping
    return -vectors @ ((vectors.T @ gradient) / divisor)
