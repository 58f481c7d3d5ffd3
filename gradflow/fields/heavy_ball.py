"""Gradient descent with momentum: the heavy ball of Polyak (1964)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree
from pydantic import Field

from ..problem import Problem
from .field import AbstractField, FieldSpec, number
from .momentum import Momentum, MomentumState


class HeavyBallFlow(AbstractField):
    """eta (1 + mu) / 2 params'' + (1 - mu) params' = -grad L(params).

    ``optax.sgd(eta, momentum=mu)`` is within O(eta^2) of it at a fixed time t = eta x step and
    fixed mu, the first few steps apart: see `gradflow.fields.momentum`.

    Attributes:
        problem: the problem's functions.
        mechanism: the numbers of the equation.
    """

    problem: Problem
    mechanism: Momentum

    symmetric: ClassVar[bool] = False
    init_cost: ClassVar[int] = 1

    def init(self, params: PyTree, data: PyTree) -> MomentumState:
        """The state that stands for the optimiser's own start from `params`."""
        return self.mechanism.start(self.problem, params, data)

    def __call__(self, t: Float[Array, ""], state: MomentumState, data: PyTree) -> MomentumState:
        """The time derivative of the state: one evaluation of grad L."""
        return self.mechanism.slope(self.problem, state, data)

    @staticmethod
    def measured(state: MomentumState) -> PyTree:
        """The parameters, and how far they would coast."""
        return state.params, state.coast

    @staticmethod
    def params(state: MomentumState) -> PyTree:
        """The parameters."""
        return state.params

    @staticmethod
    def dissipated(state: MomentumState) -> Float[Array, ""]:
        """What the energy has lost."""
        return state.dissipated

    def gradient(self, state: MomentumState, slope: MomentumState, data: PyTree) -> PyTree:
        """grad L, read off the slope."""
        return self.mechanism.gradient(slope)

    def energy(self, state: MomentumState, gradient: PyTree, data: PyTree) -> Float[Array, ""]:
        """The loss and the kinetic energy."""
        return self.mechanism.energy(self.problem, state, data)


class HeavyBall(FieldSpec):
    """The heavy ball's equation, by its learning rate and momentum.

    Attributes:
        learning_rate: eta of the descent that it stands for.
        momentum: mu.
    """

    kind: Literal["heavy_ball"] = "heavy_ball"
    learning_rate: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def build(self, problem: Problem) -> Any:
        """The field."""
        eta, mu = number(self.learning_rate, problem), number(self.momentum, problem)
        return HeavyBallFlow(problem.bare(), Momentum(eta, mu, jnp.zeros_like(eta)))
