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
