"""The spec that builds the problem."""

from __future__ import annotations

from typing import Annotated, Literal

import equinox as eqx
import numpy as np
from jaxtyping import Array
from pydantic import Field, ValidationInfo, field_validator

from ...observables import Event, Observable
from ...plotting import Figure
from ...problem import Problem
from ...trajectory import Trajectory
from ..blocks import BALANCES, check_heads, drawn
from ..claims import Claim
from ..draws import sources
from ..task import Task
from .claims import claims
from .data import Data, collected, draw, transitions
from .figures import figures
from .model import CausalTransformer, sample_loss
from .observables import events, observables


class NextToken(Task):
    """A causal transformer learns to predict the next token of a Markov chain.

    One chain makes all sequences, and predictions pass from uniform ones over those of unigrams
    and of bigrams to those of trigrams, each of which is nearly a stationary point (in context:
    Edelman et al. 2024, arXiv 2402.11004; Varre, Yüce & Flammarion 2025, arXiv 2508.12837). The
    least loss that can be had is known: it is the entropy of the counts of the training sequences.

    Attributes:
        vocabulary: tokens in all.
        order: tokens that the next one depends on: 1, or 2 for a chain with trigrams.
        concentration: of the Dirichlet distribution that each distribution of the next token is
            drawn from; the smaller, the more certain is what comes next.
        sequences: sequences to train on.
        length: tokens of a sequence; all but the first are predicted.
        test_sequences: fresh sequences of the same chain.
        width: of the stream (m).
        layers: blocks of attention and an MLP.
        heads: of every layer; a divisor of the width.
        neurons: hidden units of each MLP.
        context: the last positions that a layer attends to, the present one included.
        scale: of the initial weights, which are uniform on +-scale/sqrt(fan_in); the smaller, the
            longer are the plateaus.

    >>> import gradflow as gf
    >>> import jax
    >>> task = gf.tasks.NextToken(vocabulary=3, sequences=4, length=8, width=4, neurons=4)
    >>> problem = task.build(jax.random.key(0))
    >>> problem.data.train.shape, problem.data.ngrams.shape
    ((4, 8), (4, 4, 7, 3))
    >>> bool(problem.loss(problem.params, problem.data) > problem.data.bound > 0)
    True
    """

    kind: Literal["next-token"] = "next-token"
    vocabulary: Annotated[int, Field(ge=2, le=1000)] = 4
    order: Annotated[int, Field(ge=1, le=2)] = 2
    concentration: Annotated[float, Field(gt=0)] = 0.3
    sequences: Annotated[int, Field(ge=1, lt=2**31)] = 40
    length: Annotated[int, Field(ge=2, lt=2**31)] = 24
    test_sequences: Annotated[int, Field(ge=1, lt=2**31)] = 100
    width: Annotated[int, Field(ge=1, lt=2**31)] = 16
    # Every layer is compiled by itself.
    layers: Annotated[int, Field(ge=1, le=32)] = 1
    heads: Annotated[int, Field(ge=1, lt=2**31)] = 1
    neurons: Annotated[int, Field(ge=1, lt=2**31)] = 32
    context: Annotated[int, Field(ge=1, lt=2**31)] = 2
    scale: Annotated[float, Field(gt=0)] = 0.5

    @field_validator("heads")
    @classmethod
    def _divide_the_width(cls, heads: int, fields: ValidationInfo) -> int:
        return check_heads(heads, fields.data.get("width", 0))  # 0 where it is refused itself

    @field_validator("context")
    @classmethod
    def _within_the_sequence(cls, context: int, fields: ValidationInfo) -> int:
        most = fields.data.get("length", 2**31) - 1
        if context > most:
            raise ValueError(
                f"got {context}; allowed: at most {most}, the tokens before the last of each "
                f"sequence, or set length to {context + 1}"
            )
        return context

    @property
    def seen(self) -> int:
        """How many tokens a prediction depends on: 1 + layers (context - 1)."""
        return 1 + self.layers * (self.context - 1)

    @property
    def observables(self) -> tuple[Observable, ...]:
        """What is recorded."""
        return observables(self.order, self.length, self.layers, self.heads, self.context)

    @property
    def events(self) -> tuple[Event, ...]:
        """What ends the phases."""
        return events(self.order)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What is drawn."""
        return figures(self.order, self.layers, self.heads, self.context)

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of weights from `key`, of chain and sequences from `data_key`.

        Everything is drawn on the host, so that it does not depend on the device.
        """
        chain, weights = sources(key, data_key)
        shapes = eqx.filter_eval_shape(
            CausalTransformer,
            self.vocabulary, self.width, self.layers, self.heads, self.neurons, self.context,
        )  # fmt: skip
        return Problem(
            params=drawn(shapes, weights, self.scale),
            data=self._data(chain),
            sample_loss=sample_loss,
            observables=self.observables,
            events=self.events,
        )

    def _data(self, rng: np.random.Generator) -> Data:
        chain = transitions(rng, self.vocabulary, self.order, self.concentration)
        train, test = (
            draw(rng, chain, count, self.length) for count in (self.sequences, self.test_sequences)
        )
        return collected(train, test, self.vocabulary, self.order, self.seen)

    def phases(self, trajectory: Trajectory) -> dict[str, float | None]:
        """T1, T2 and, at order 2, T3.

        At Tk predictions first get nearer to those of unigrams, bigrams or trigrams than to those
        of what precedes them in this order, which is uniform ones before unigrams.
        """
        return {
            name: _first_positive(rows, trajectory.event_values[name])
            for name, rows in trajectory.crossings.items()
        }

    def invariants(self, trajectory: Trajectory) -> dict[str, float]:
        """How far each quantity that the flow conserves drifted, relative, at the worst."""
        return {name: float(trajectory[name].max(initial=0.0)) for name in BALANCES}

    def claims(self, trajectory: Trajectory) -> tuple[Claim, ...]:
        """The order of the phases, the least loss, and what the flow conserves."""
        return claims(trajectory, self.phases(trajectory))


def _first_positive(crossings: np.ndarray, value_at_end: float) -> float | None:
    """When an event's function is first positive; ``None`` if it never is."""
    if not len(crossings):
        return 0.0 if value_at_end > 0 else None
    time, direction = crossings[0]
    return float(time) if direction > 0 else 0.0
