"""The spec that builds the coupled system."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array
from pydantic import model_validator

from ...problem import Problem
from ..cooccurrence.data import SPECIAL, Samples, random_words
from ..cooccurrence.sentences import Sentences
from ..cooccurrence.task import Cooccurrence
from .observables import EVENTS, OBSERVABLES
from .statistics import draw
from .system import Sizes, State, of_weights, velocity


class Data(NamedTuple):
    """Sentences, with the words that occur in them numbered anew, and the transformer's sizes."""

    train: Samples
    test: Samples
    sizes: Sizes


def _velocity(t: Array, state: State, data: Data) -> State:
    del t
    return velocity(state, data.sizes, data.train)


class Coupled(Sentences):
    """The co-occurrence transformer as its coupled dynamical system (Appendix C).

    Only words that occur in the sentences are followed, or could have been drawn in their place:
    the others change nothing and are changed by nothing that anyone looks at.

    Attributes:
        start: ``"weights"``, from the very weights that the transformer of the same seed starts
            from, or ``"statistics"``, drawn from the law that Gaussian weights of the same
            standard deviations give the state, without any weights: for every width.

    >>> import gradflow as gf
    >>> import jax
    >>> task = gf.tasks.Coupled(samples=6, length=3, vocabulary=8, width=4, neurons=8)
    >>> problem = task.build(jax.random.key(0))
    >>> problem.has_loss, task.counterpart(weights=1000).width
    (False, 4)
    """

    title: ClassVar = "coupled system"
    observables: ClassVar = OBSERVABLES
    events: ClassVar = EVENTS

    kind: Literal["coupled"] = "coupled"
    start: Literal["weights", "statistics"] = "weights"

    @model_validator(mode="after")
    def _gaussian(self) -> Coupled:
        if self.start == "statistics" and self.initialisation == "kaiming-uniform":
            raise ValueError(
                "start: statistics draws from the law that Gaussian weights have, and those of "
                "kaiming-uniform are not; allowed: initialisation kaiming-normal or theory, or "
                "start: weights"
            )
        return self

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of the start from `key`, and of sentences from `data_key`."""
        *sources, weights = self.sources(key, data_key)
        sentences = self.data(*sources)
        words = self._followed(np.concatenate([s.tokens.ravel() for s in sentences]))
        train, test = (
            s._replace(tokens=jax.device_put(np.searchsorted(words, s.tokens).astype(np.int32)))
            for s in sentences
        )
        width, neurons = (jax.device_put(float(size)) for size in (self.width, self.neurons))
        return Problem(
            params=self.state(weights, words),
            data=Data(train, test, Sizes(width, neurons)),
            vector_field=_velocity,
            observables=self.observables,
            events=self.events,
        )

    def counterpart(self, weights: int) -> Cooccurrence | None:
        """The transformer itself, of the same sizes and initialisation."""
        if self.width * (self.neurons + 3 * self.vocabulary) > weights:
            return None
        fields = (name for name in Sentences.model_fields if name != "kind")
        return Cooccurrence(**{name: getattr(self, name) for name in fields})

    def _followed(self, tokens: np.ndarray) -> np.ndarray:
        """The words among `tokens`, ascending, and others to a number that no draw changes.

        So that all draws have states of one shape, and one compiled program.
        """
        occurring = np.union1d(np.arange(SPECIAL, dtype=np.int32), tokens)
        sizes = (self.samples, self.test_samples)
        most = SPECIAL + sum(random_words(n, self.length) for n in sizes)
        size = min(self.vocabulary, most)
        others = np.setdiff1d(np.arange(size, dtype=np.int32), occurring)
        return np.union1d(occurring, others[: size - len(occurring)])

    def state(self, rng: np.random.Generator, words: np.ndarray) -> State:
        """The state at t = 0 of the given words, tokens of shape ``(d,)``, drawn from `rng`."""
        if self.start == "statistics":
            s1, s0 = self.deviation("w"), self.deviation("w_v")
            return draw(rng, len(words), self.width, self.neurons, s0, s1)
        model = self.weights(rng)
        return of_weights(model.w, model.w_v, model.w_k, model.w_q, model.signs, words)
