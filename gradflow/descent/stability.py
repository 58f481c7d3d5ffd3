"""Where gradient descent is stable: a learning rate below 2 / sharpness."""

from __future__ import annotations

import sys
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from .. import _spectral
from .._linalg import PRECISION
from ..problem import Problem
from .stepping import Descent

# Hessian-vector products: the sharpness is known to a thousandth or better.
_STEPS = 30


class StabilityWarning(UserWarning):
    """A learning rate above 2 / sharpness, at which descent is unstable where it starts.

    Only of steps that are the gradient's alone. Networks often train all the same, at the edge of
    stability (Cohen, Kaur, Li, Kolter & Talwalkar, ICLR 2021).

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", gf.StabilityWarning)
    ...     gf.descend(problem, learning_rate=2.1, steps=4, save=gf.Linear(count=5))
    Traceback (most recent call last):
    gradflow.descent.stability.StabilityWarning: learning rate 2.1 is above 2 / sharpness = 2 at ...
    """


def initial_sharpness(problem: Problem) -> float:
    """The largest eigenvalue of the Hessian at the initial parameters, by Lanczos' method.

    Takes `cost` gradient evaluations. NaN where the Hessian is not finite.
    """
    with jax.default_matmul_precision(PRECISION):
        return float(_sharpness(problem.bare(), problem.params, problem.data))


def cost(problem: Problem) -> int:
    """Gradient evaluations that `initial_sharpness` takes: one, and products with the Hessian."""
    return 1 + 2 * min(_STEPS, problem.size)


@eqx.filter_jit
def _sharpness(problem: Problem, params: PyTree, data: PyTree):
    product = _spectral.hessian(lambda p: problem.loss(p, data), params)
    like, _ = ravel_pytree(params)
    start = _spectral.direction(jax.random.key(0), like)
    return _spectral.lanczos(product, start, start, min(_STEPS, like.size)).values[0]


def plain_step(descent: Descent, params: PyTree) -> float | None:
    """The number c if the optimiser's steps are -c times the gradient; ``None`` if they are not.

    It is tried on two gradients, one after the other: momentum, preconditioning, weight decay,
    clipping and schedules all show.
    """
    low, high = map(float, _ratios(descent, params))
    return high if high > 0 and high - low <= 1e-5 * high else None


@eqx.filter_jit
def _ratios(descent: Descent, params: PyTree) -> tuple[Array, Array]:
    """The least and the largest of -step / gradient, over entries and over two steps."""
    memory, key, ratios = descent.first_memory(params), jax.random.key(0), []
    loss = jnp.ones_like(descent.learning_rate)
    for scale in (1.0, 3.0):
        gradient = jax.tree.map(
            lambda p, scale=scale: scale * jax.random.rademacher(key, p.shape, p.dtype), params
        )
        change, memory = descent.change(gradient, memory, params, loss)
        ratios += jax.tree.leaves(jax.tree.map(lambda u, g: (-u / g).ravel(), change, gradient))
    every = jnp.concatenate(ratios)
    return jnp.min(every), jnp.max(every)


def warn(learning_rate: float, sharpness: float) -> None:
    """Warn of a learning rate of plain descent that is above 2 / sharpness."""
    if learning_rate * sharpness > 2:
        warnings.warn(
            f"learning rate {learning_rate:g} is above 2 / sharpness = {2 / sharpness:.4g} at the "
            f"start, where the sharpness is {sharpness:.4g}: descent is unstable there",
            StabilityWarning,
            stacklevel=_callers_level(),
        )


def _callers_level() -> int:
    """How far above whoever calls this the package itself was called."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("gradflow."):
        level, frame = level + 1, frame.f_back
    return level
