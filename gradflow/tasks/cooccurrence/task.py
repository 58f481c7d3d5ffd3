"""The spec that builds the problem of the paper."""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Array

from ...problem import Problem
from .observables import EVENTS, OBSERVABLES
from .sentences import Sentences


class Cooccurrence(Sentences):
    """The word co-occurrence problem.

    Defaults are the paper's experiment (Appendix A).

    >>> import gradflow as gf
    >>> import jax
    >>> task = gf.tasks.Cooccurrence(samples=6, length=3, vocabulary=16, width=4, neurons=8)
    >>> problem = task.build(jax.random.key(0))
    >>> problem.size, problem.data.train.tokens.shape  # m_1 m + 3 m d weights
    (224, (6, 3))
    """

    title: ClassVar = "transformer"
    observables: ClassVar = OBSERVABLES
    events: ClassVar = EVENTS
    # W^T W - W_V W_V^T and W_K W_K^T - W_Q W_Q^T
    conserved: ClassVar = ("balance_mlp", "balance_attention")

    kind: Literal["cooccurrence"] = "cooccurrence"

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of weights from `key`, and of sentences from `data_key`."""
        return self.problem(self.weights, key, data_key)
