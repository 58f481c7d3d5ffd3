"""Nesterov's accelerated gradient descent with a constant momentum.

Sutskever, Martens, Dahl & Hinton, "On the importance of initialization and momentum in deep
learning", ICML 2013, in the form that ``optax.sgd(..., nesterov=True)`` has.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ..problem import Problem
from .field import FieldSpec, number
from .momentum import Momentum, MomentumFlow


class Nesterov(FieldSpec):
    """The equation of Nesterov's method, by its learning rate and momentum.

    eta (1 + mu) / 2 params'' + (1 - mu) params' + mu eta d/dt grad L = -grad L(params),
    which ``optax.sgd(eta, momentum=mu, nesterov=True)`` follows: see `gradflow.fields.momentum`.

    Attributes:
        learning_rate: eta of the descent that it stands for.
        momentum: mu.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 2.0, 0.0)  # with the gradient 2 at the start
    >>> field = gf.fields.Nesterov(learning_rate=0.1, momentum=0.5).build(problem)
    >>> start = field.init(problem.params, problem.data)
    >>> round(float(start.coast), 6)  # -eta g / (2 (1 - mu)), as of the heavy ball
    -0.2
    """

    kind: Literal["nesterov"] = "nesterov"
    learning_rate: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def build(self, problem: Problem) -> Any:
        """The field."""
        eta, mu = number(self.learning_rate, problem), number(self.momentum, problem)
        return MomentumFlow(problem.bare(), Momentum(eta, mu, mu * eta))
