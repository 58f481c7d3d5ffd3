"""The modified flow of gradient descent.

Barrett & Dherin, "Implicit Gradient Regularization", ICLR 2021, Theorem 3.1; backward error
analysis: Hairer, Lubich & Wanner, Geometric Numerical Integration, IX.1.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree
from pydantic import Field

from .._linalg import tree_dot
from ..problem import Problem
from .field import AbstractField, FieldSpec, number
from .gradient import GradientState


class ModifiedFlow(AbstractField):
    """d params/dt = -grad(L + eta/4 |grad L|^2) = -(g + eta/2 H g), g and H at params.

    Gradient descent with learning rate eta stays within O(eta^2) of it over a fixed time, where
    it stays within O(eta) of the gradient flow. One evaluation is a gradient and a
    Hessian-vector product.

    Attributes:
        problem: the problem's functions.
        learning_rate: eta, shape ``()``.
    """

    problem: Problem
    learning_rate: Float[Array, ""]

    symmetric: ClassVar[bool] = True  # a gradient's too
    cost: ClassVar[int] = 3
    gradient_cost: ClassVar[int] = 1

    def init(self, params: PyTree, data: PyTree) -> GradientState:
        """The state that `params` start from."""
        del data
        return GradientState(params, jnp.zeros((), jax.tree.leaves(params)[0].dtype))

    def __call__(self, t: Float[Array, ""], state: GradientState, data: PyTree) -> GradientState:
        """The time derivative of the state."""

        def gradient(params: PyTree) -> tuple[PyTree, Array]:
            loss, slope = jax.value_and_grad(self.problem.loss)(params, data)
            return slope, loss

        g, product, loss = jax.linearize(gradient, state.params, has_aux=True)
        half = self.learning_rate / 2
        slope = jax.tree.map(lambda g, hg: -(g + half * hg), g, product(g))
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
        """The integral of the squared speed: what the modified loss has lost."""
        return state.dissipated

    def gradient(self, state: GradientState, slope: GradientState, data: PyTree) -> PyTree:
        """grad L, which the slope does not tell."""
        return jax.grad(self.problem.loss)(state.params, data)

    def energy(self, state: GradientState, gradient: PyTree, data: PyTree) -> Float[Array, ""]:
        """The modified loss L + eta/4 |grad L|^2."""
        loss = self.problem.loss(state.params, data)
        return loss + self.learning_rate / 4 * tree_dot(gradient, gradient)


class Modified(FieldSpec):
    """The flow of the modified loss L + eta/4 |grad L|^2 (Barrett & Dherin 2021).

    Attributes:
        learning_rate: eta, of the gradient descent that it stands for.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2, so w' = -(1 + eta/2) w
    >>> field = gf.fields.Modified(learning_rate=0.1)
    >>> flow = gf.solve(problem, t1=2.0, field=field, save=gf.Linear(count=5))
    >>> round(float(flow.final_params), 3)  # exp(-2.1)
    0.122
    """

    kind: Literal["modified"] = "modified"
    learning_rate: Annotated[float, Field(gt=0)]

    def build(self, problem: Problem) -> Any:
        """The field."""
        return ModifiedFlow(problem.bare(), number(self.learning_rate, problem))
