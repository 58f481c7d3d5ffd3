"""The spec that builds the problem, and what is read off its trajectories."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import jax
import numpy as np
from jaxtyping import Array
from pydantic import Field, model_validator

from ...analysis import positive_since
from ...problem import Problem
from ...trajectory import Trajectory
from ..task import Task
from .data import SPECIAL, Data, draw, random_words
from .figures import FIGURES
from .model import Transformer, sample_loss
from .observables import EVENTS, OBSERVABLES


class Cooccurrence(Task):
    """The word co-occurrence problem; defaults are the paper's experiment (Appendix A).

    Attributes:
        samples: sentences n: n/2 with both targets, n/6 each with the first, the second and
            neither (Assumption 2.3).
        length: words L in a sentence.
        vocabulary: words d in all, three of them special.
        width: embedding dimension m of the attention.
        neurons: hidden neurons m_1 of the MLP.
        initialisation: ``"kaiming-uniform"``, uniform on +-1/sqrt(fan_in) as a PyTorch linear
            layer; ``"kaiming-normal"``, normal of standard deviation sqrt(2/fan_in); or
            ``"theory"``, normal of standard deviation 1/sqrt(m_1) for W and 1/sqrt(L m) for the
            others (Condition 1). fan_in is the last axis of each matrix.
        unique_words: whether no random word may occur twice in the training set
            (Assumption 2.3).
        test_samples: fresh sentences for the test loss.
    """

    observables: ClassVar = OBSERVABLES
    events: ClassVar = EVENTS
    figures: ClassVar = FIGURES

    kind: Literal["cooccurrence"] = "cooccurrence"
    samples: Annotated[int, Field(ge=6, lt=2**31, multiple_of=6)] = 60
    length: Annotated[int, Field(ge=3, lt=2**31)] = 5
    vocabulary: Annotated[int, Field(ge=4, lt=2**31)] = 64
    width: Annotated[int, Field(ge=1, lt=2**31)] = 128
    neurons: Annotated[int, Field(ge=1, lt=2**31)] = 256
    initialisation: Literal["kaiming-uniform", "kaiming-normal", "theory"] = "kaiming-uniform"
    unique_words: bool = False
    test_samples: Annotated[int, Field(ge=6, lt=2**31, multiple_of=6)] = 600

    @model_validator(mode="after")
    def _enough_words(self) -> Cooccurrence:
        needed = random_words(self.samples, self.length)
        available = self.vocabulary - SPECIAL
        if self.unique_words and needed > available:
            raise ValueError(
                f"unique_words needs {needed} random words for {self.samples} samples of length "
                f"{self.length}, and a vocabulary of {self.vocabulary} has {available}; "
                f"set vocabulary to at least {needed + SPECIAL}"
            )
        return self

    def build(self, key: Array) -> Problem:
        """The problem for one draw of data and weights, from `key`.

        Everything is drawn on the host in float64, so that it does not depend on the device, and
        float32 runs start where float64 runs do, to rounding.
        """
        entropy = np.asarray(jax.random.key_data(key)).tolist()
        train, test, weights = map(np.random.default_rng, np.random.SeedSequence(entropy).spawn(3))
        size = self.length, self.vocabulary
        return Problem(
            params=self._model(weights),
            data=Data(
                draw(train, self.samples, *size, unique=self.unique_words),
                draw(test, self.test_samples, *size, unique=False),
            ),
            sample_loss=sample_loss,
            observables=self.observables,
            events=self.events,
        )

    def phases(self, trajectory: Trajectory) -> dict[str, float | None]:
        """T1, from which on every training sample stays correctly classified (phase boundary),
        and T_half, from which on up to T1 max(G1', G2') < -G3' < G1' + G2' (Lemma 4.3).
        """
        crossings, final = trajectory.crossings, trajectory.event_values
        t1 = positive_since(crossings["min_margin"], final["min_margin"])
        t_half = None
        if t1 is not None:
            t_half = positive_since(crossings["response_order"], final["response_order"], t1)
        return {"T_half": t_half, "T1": t1}

    def invariants(self, trajectory: Trajectory) -> dict[str, float]:
        """W^T W - W_V W_V^T and W_K W_K^T - W_Q W_Q^T: how far each drifted, at the worst."""
        names = ("balance_mlp", "balance_attention")
        return {name: float(trajectory[name].max(initial=0.0)) for name in names}

    def _model(self, rng: np.random.Generator) -> Transformer:
        square = (self.width, self.vocabulary)
        small = 1 / math.sqrt(self.length * self.width)
        return Transformer(
            w=self._matrix(rng, (self.neurons, self.width), 1 / math.sqrt(self.neurons)),
            w_v=self._matrix(rng, square, small),
            w_k=self._matrix(rng, square, small),
            w_q=self._matrix(rng, square, small),
            signs=jax.device_put(rng.choice(np.array([-1, 1], dtype=np.int32), self.neurons)),
        )

    def _matrix(self, rng: np.random.Generator, shape: tuple[int, int], theory: float) -> Array:
        """One matrix of weights; `theory` is its standard deviation by Condition 1."""
        bound = 1 / math.sqrt(shape[1])
        match self.initialisation:
            case "kaiming-uniform":
                values = rng.uniform(-bound, bound, shape)
            case "kaiming-normal":
                values = rng.normal(0.0, math.sqrt(2) * bound, shape)
            case "theory":
                values = rng.normal(0.0, theory, shape)
        return jax.device_put(values)
