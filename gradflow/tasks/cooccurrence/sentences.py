"""What every problem on the sentences of Definition 2.1 has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import jax
import numpy as np
from jaxtyping import Array
from pydantic import Field, model_validator

from ...analysis import positive_since
from ...problem import Problem
from ...trajectory import Trajectory
from ..claims import Claim
from ..draws import generators
from ..evidence import Evidence
from ..measure import Measure
from ..task import Task
from .claims import ROWS
from .data import SPECIAL, Data, draw, random_words
from .figures import ENSEMBLE_FIGURES, FIGURES
from .model import Transformer, sample_loss
from .orders import Sizes, measured

# "square" are those, of width m and fan_in m, that a deeper layer of attention has.
Matrix = Literal["w", "w_v", "w_k", "w_q", "square"]


class Sentences(Task):
    """Sentences, the sizes of the transformer that reads them, and how it is initialised.

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
        repeat: the probability with which a random word is the random word before it in its
            sentence, so that random words are a Markov chain and not independent. Each is still
            uniform; two that are k random words apart are one and the same with the probability
            repeat^k, and otherwise independent.
        test_samples: fresh sentences for the test loss.
    """

    sizes: ClassVar = {
        "width": "width $m$",
        "neurons": "neurons $m_1$",
        "length": "words $L$ in a sentence",
        "samples": "sentences $n$",
    }
    figures: ClassVar = FIGURES
    ensemble_figures: ClassVar = ENSEMBLE_FIGURES
    rows: ClassVar = ROWS
    conserved: ClassVar[tuple[str, ...]] = ()  # observables that the flow leaves at 0

    kind: str  # a literal in every subclass, and here so that it comes first in a file
    samples: Annotated[int, Field(ge=6, lt=2**31, multiple_of=6)] = 60
    length: Annotated[int, Field(ge=3, lt=2**31)] = 5
    vocabulary: Annotated[int, Field(ge=4, lt=2**31)] = 64
    width: Annotated[int, Field(ge=1, lt=2**31)] = 128
    neurons: Annotated[int, Field(ge=1, lt=2**31)] = 256
    initialisation: Literal["kaiming-uniform", "kaiming-normal", "theory"] = "kaiming-uniform"
    unique_words: bool = False
    repeat: Annotated[float, Field(ge=0, le=1)] = 0.0
    test_samples: Annotated[int, Field(ge=6, lt=2**31, multiple_of=6)] = 600

    @model_validator(mode="after")
    def _enough_words(self) -> Sentences:
        needed = random_words(self.samples, self.length)
        available = self.vocabulary - SPECIAL
        if self.unique_words and needed > available:
            raise ValueError(
                f"unique_words needs {needed} random words for {self.samples} samples of length "
                f"{self.length}, and a vocabulary of {self.vocabulary} has {available}; "
                f"set vocabulary to at least {needed + SPECIAL}"
            )
        return self

    @model_validator(mode="after")
    def _one_notion_of_words(self) -> Sentences:
        if self.unique_words and self.repeat:
            raise ValueError(
                f"unique_words: true lets no random word occur twice, and repeat = "
                f"{self.repeat:g} repeats them; allowed: repeat: 0, or unique_words: false"
            )
        return self

    def phases(self, trajectory: Trajectory) -> dict[str, float | None]:
        """T1, from which on every training sample stays correctly classified (phase boundary),
        and T_half, from which on up to T1 max(G1', G2') < -G3' < G1' + G2' (Lemma 4.3), where the
        run looked for it.
        """
        crossings, final = trajectory.crossings, trajectory.event_values
        t1 = positive_since(crossings["min_margin"], final["min_margin"])
        if "response_order" not in crossings:
            return {"T1": t1}
        t_half = None
        if t1 is not None:
            t_half = positive_since(crossings["response_order"], final["response_order"], t1)
        return {"T_half": t_half, "T1": t1}

    def invariants(self, trajectory: Trajectory) -> dict[str, float]:
        """How far each quantity that the flow conserves drifted, relative, at the worst."""
        return {name: float(trajectory[name].max(initial=0.0)) for name in self.conserved}

    def claims(self, trajectory: Trajectory) -> tuple[Claim, ...]:
        """The claims of the paper, in its order, each checked along the trajectory.

        Of a variable the trajectory's own save times count, and in between it is taken as linear
        in log t, at T_half and T1 too. A claim holds where it holds at all of them.
        """
        evidence = self._evidence(trajectory)
        return tuple(row(evidence) for row in self.rows)

    def problem(
        self,
        weights: Callable[[np.random.Generator], Any],
        key: Array,
        data_key: Array | None = None,
    ) -> Problem:
        """The problem of training a model to recognise which sentences have both targets.

        Args:
            weights: the model at its initialisation.
            key: what its weights are drawn from.
            data_key: what sentences are drawn from, if not from `key`.
        """
        train, test, rng = self.sources(key, data_key)
        return Problem(
            params=weights(rng),
            data=self.data(train, test),
            sample_loss=sample_loss,
            observables=self.observables,
            events=self.events,
        )

    def measures(self, trajectory: Trajectory) -> tuple[Measure, ...]:
        """What the orders of the paper are about, and the limit of infinite width."""
        if not self.sizes:
            return ()
        s0, s1 = self.deviation("w_v"), self.deviation("w")
        sizes = Sizes(self.samples, self.length, self.width, self.neurons, s0, s1)
        return measured(self._evidence(trajectory), sizes, self.unique_words)

    def _evidence(self, trajectory: Trajectory) -> Evidence:
        return Evidence(trajectory, self.phases(trajectory), self.rate)

    @property
    def rate(self) -> float:
        """s1^2 m m_1: phase 1 ends at a multiple of its inverse, and 1/L grows in proportion."""
        return self.deviation("w") ** 2 * self.width * self.neurons

    @property
    def unit_of_time(self) -> float:
        """1 / (s1^2 m m_1)."""
        return 1 / self.rate

    def sources(
        self, key: Array, data_key: Array | None = None
    ) -> tuple[np.random.Generator, np.random.Generator, np.random.Generator]:
        """What training sentences, test sentences and weights are drawn from, one each.

        Sentences are drawn from `data_key`, if it is given, as they would be from the same `key`.

        Everything is drawn on the host in float64, so that it does not depend on the device, and
        float32 runs start where float64 runs do, to rounding.
        """

        train, test, _ = generators(key if data_key is None else data_key, 3)
        return train, test, generators(key, 3)[2]

    def data(self, train: np.random.Generator, test: np.random.Generator) -> Data:
        """The sentences."""
        size = self.length, self.vocabulary
        return Data(
            draw(train, self.samples, *size, unique=self.unique_words, repeat=self.repeat),
            draw(test, self.test_samples, *size, repeat=self.repeat),
        )

    def deviation(self, matrix: Matrix) -> float:
        """The standard deviation of a matrix's entries."""
        match self.initialisation:
            case "kaiming-uniform":
                return 1 / math.sqrt(3 * self._fan_in(matrix))
            case "kaiming-normal":
                return math.sqrt(2 / self._fan_in(matrix))
            case "theory":
                inverse = {"w": self.neurons, "square": self.width}
                return 1 / math.sqrt(inverse.get(matrix, self.length * self.width))

    def _fan_in(self, matrix: Matrix) -> int:
        return self.width if matrix in ("w", "square") else self.vocabulary

    def weights(self, rng: np.random.Generator) -> Transformer:
        """The transformer at its initialisation."""
        return Transformer(
            w=self.matrix(rng, "w"),
            w_v=self.matrix(rng, "w_v"),
            w_k=self.matrix(rng, "w_k"),
            w_q=self.matrix(rng, "w_q"),
            signs=jax.device_put(rng.choice(np.array([-1, 1], dtype=np.int32), self.neurons)),
        )

    def matrix(self, rng: np.random.Generator, name: Matrix) -> Array:
        """A matrix at its initialisation; it has as many columns as its fan_in says."""
        shape = (self.neurons if name == "w" else self.width, self._fan_in(name))
        if self.initialisation == "kaiming-uniform":
            bound = 1 / math.sqrt(self._fan_in(name))
            return jax.device_put(rng.uniform(-bound, bound, shape))
        return jax.device_put(rng.normal(0.0, self.deviation(name), shape))
