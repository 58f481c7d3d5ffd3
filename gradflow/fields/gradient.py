"""Gradient flow."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._linalg import tree_dot
from ..problem import Problem
from .field import AbstractField


class GradientState(NamedTuple):
    """The state of a flow that goes down a gradient.

    Attributes:
        params: the trained arrays, in the structure of `Problem.params`.
        dissipated: the integral of the squared speed so far, shape ``()``. It costs one inner
            product beside each gradient and makes the energy identity L(0) - L(t) = dissipated(t)
            a check on every run.

    >>> import gradflow as gf
    >>> gf.fields.GradientState(params=2.0, dissipated=0.0).params
    2.0
    """

    params: PyTree
    dissipated: Float[Array, ""]


class GradientFlow(AbstractField):
    """d params/dt = -grad L(params).

    Attributes:
        problem: the problem's functions.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 2.0, 0.0)  # L(w) = w^2 / 2
    >>> field = gf.fields.GradientFlow(problem.bare())
    >>> slope = field(0.0, field.init(problem.params, problem.data), problem.data)
    >>> float(slope.params), float(slope.dissipated)
    (-2.0, 4.0)
    """

    problem: Problem

    symmetric: ClassVar[bool] = True  # minus the Hessian

    def init(self, params: PyTree, data: PyTree) -> GradientState:
        """The state that `params` start from."""
        del data
        return GradientState(params, jnp.zeros((), jax.tree.leaves(params)[0].dtype))

    def __call__(self, t: Float[Array, ""], state: GradientState, data: PyTree) -> GradientState:
        """The time derivative of the state: one evaluation of grad L.

        Where the loss is not finite neither is the slope, even if the gradient happens to be.
        """
        loss, pull_back = jax.vjp(lambda params: self.problem.loss(params, data), state.params)
        # Minus the gradient, without a pass over the parameters to change its sign.
        (slope,) = pull_back(-jnp.ones_like(loss))
        rate = tree_dot(slope, slope)
        return GradientState(slope, jnp.where(jnp.isfinite(loss), rate, jnp.nan))

    @staticmethod
    def measured(state: GradientState) -> PyTree:
        """The parameters."""
        return state.params

    @staticmethod
    def params(state: GradientState) -> PyTree:
        """The parameters."""
        return state.params

    @staticmethod
    def dissipated(state: GradientState) -> Float[Array, ""]:
        """The integral of |grad L|^2."""
        return state.dissipated

    def gradient(self, state: GradientState, slope: GradientState, data: PyTree) -> None:
        """The slope, but for its sign."""

    def energy(self, state: GradientState, gradient: PyTree, data: PyTree) -> None:
        """The loss."""
