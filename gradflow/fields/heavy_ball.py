"""Gradient descent with momentum: the heavy ball of Polyak (1964)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import jax.numpy as jnp
from pydantic import Field

from ..problem import Problem
from .field import FieldSpec, number
from .momentum import Momentum, MomentumFlow


class HeavyBall(FieldSpec):
    """The heavy ball's equation (Polyak 1964), by its learning rate and momentum.

    eta (1 + mu) / 2 params'' + (1 - mu) params' = -grad L(params),
    which ``optax.sgd(eta, momentum=mu)`` follows: see `gradflow.fields.momentum`.

    Attributes:
        learning_rate: eta of the descent that it stands for.
        momentum: mu.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 2.0, 0.0)  # with the gradient 2 at the start
    >>> field = gf.fields.HeavyBall(learning_rate=0.1, momentum=0.5).build(problem)
    >>> start = field.init(problem.params, problem.data)
    >>> round(float(start.coast), 6)  # -eta g / (2 (1 - mu))
    -0.2
    """

    kind: Literal["heavy_ball"] = "heavy_ball"
    learning_rate: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def build(self, problem: Problem) -> Any:
        """The field."""
        eta, mu = number(self.learning_rate, problem), number(self.momentum, problem)
        return MomentumFlow(problem.bare(), Momentum(eta, mu, jnp.zeros_like(eta)))
