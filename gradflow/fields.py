"""The vector fields that a problem can be made to follow."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ._linalg import tree_dot
from .problem import Problem


class GradientState(NamedTuple):
    """The state of gradient flow.

    `dissipated` is the integral of |grad L|^2 so far. It costs one inner product beside each
    gradient and makes the energy identity L(0) - L(t) = dissipated(t) a check on every run.
    """

    params: PyTree
    dissipated: Float[Array, ""]


class GradientFlow(eqx.Module):
    """d params/dt = -grad L(params)."""

    problem: Problem

    symmetric = True  # the Jacobian of what is measured: minus the Hessian

    def init(self, params: PyTree) -> GradientState:
        """The state that `params` start from."""
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
        """The part of a state or slope whose error is bounded: the parameters."""
        return state.params

    @staticmethod
    def split(state: GradientState) -> tuple[PyTree, Float[Array, ""] | None]:
        """The parameters and the energy dissipated."""
        return state.params, state.dissipated


class OwnField(eqx.Module):
    """The vector field of a problem that was given as one."""

    problem: Problem

    symmetric = False  # as far as anyone knows

    def init(self, params: PyTree) -> PyTree:
        """The state that `params` start from: themselves."""
        return params

    def __call__(self, t: Float[Array, ""], state: PyTree, data: PyTree) -> PyTree:
        """The time derivative of the state."""
        return self.problem.vector_field(t, state, data)

    @staticmethod
    def measured(state: PyTree) -> PyTree:
        """The part of a state or slope whose error is bounded: all of it."""
        return state

    @staticmethod
    def split(state: PyTree) -> tuple[PyTree, Float[Array, ""] | None]:
        """The parameters; a field without a loss dissipates nothing that is known."""
        return state, None


FIELDS = {"gradient": GradientFlow}
