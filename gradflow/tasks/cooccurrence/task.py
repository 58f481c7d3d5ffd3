"""The spec that builds the problem, and what is read off its trajectories."""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Array

from ...problem import Problem
from ...trajectory import Trajectory
from .model import sample_loss
from .observables import EVENTS, OBSERVABLES
from .sentences import Sentences


class Cooccurrence(Sentences):
    """The word co-occurrence problem; defaults are the paper's experiment (Appendix A)."""

    title: ClassVar = "transformer"
    observables: ClassVar = OBSERVABLES
    events: ClassVar = EVENTS

    kind: Literal["cooccurrence"] = "cooccurrence"

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of weights from `key`, and of sentences from `data_key`."""
        train, test, weights = self.sources(key, data_key)
        return Problem(
            params=self.weights(weights),
            data=self.data(train, test),
            sample_loss=sample_loss,
            observables=self.observables,
            events=self.events,
        )

    def invariants(self, trajectory: Trajectory) -> dict[str, float]:
        """W^T W - W_V W_V^T and W_K W_K^T - W_Q W_Q^T: how far each drifted, at the worst."""
        names = ("balance_mlp", "balance_attention")
        return {name: float(trajectory[name].max(initial=0.0)) for name in names}
