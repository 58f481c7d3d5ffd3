"""The spec that builds the problem."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Array
from pydantic import Field, ValidationInfo, field_validator

from ...observables import Observable
from ...plotting import Figure
from ...problem import Problem
from ..blocks import check_heads
from ..checking import Special
from ..cooccurrence.sentences import Sentences
from ..evidence import Row
from .claims import rows
from .figures import figures
from .model import Attention, DeepTransformer
from .observables import EVENTS, observables


class Deep(Sentences):
    """The word co-occurrence problem for several layers of attention, of several heads each.

    The first layer, the MLP and the sentences are those of the one-layer transformer of the same
    seed. Matrices of deeper layers have the fan_in m; for them ``initialisation: theory`` has the
    standard deviation 1/sqrt(m), which keeps norms: values have the norm 1/sqrt(L), and scores as
    the softmax takes them the size 1/(L m), in every layer as Condition 1 has them in the first.

    Attributes:
        layers: layers of attention, each of which reads the one before.
        heads: heads H of every layer, with m/H rows of each matrix; a divisor of the width.

    >>> import gradflow as gf
    >>> import jax
    >>> task = gf.tasks.Deep(samples=6, length=3, vocabulary=16, width=4, neurons=8, heads=2)
    >>> task.build(jax.random.key(0)).size  # m_1 m + 3 m d + 3 m^2 weights
    272
    """

    sizes: ClassVar = {}  # the orders are those of one layer
    events: ClassVar = EVENTS
    ensemble_figures: ClassVar = None
    conserved: ClassVar = ("balance_values", "balance_attention")

    kind: Literal["cooccurrence-deep"] = "cooccurrence-deep"
    # Every layer is compiled by itself.
    layers: Annotated[int, Field(ge=1, le=32)] = 2
    heads: Annotated[int, Field(ge=1, lt=2**31)] = 1

    @field_validator("heads")
    @classmethod
    def _divide_the_width(cls, heads: int, fields: ValidationInfo) -> int:
        return check_heads(heads, fields.data.get("width", 0))  # 0 where it is refused itself

    @property
    def observables(self) -> tuple[Observable, ...]:
        """What is recorded."""
        return observables(self.layers, self.heads)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What is drawn."""
        return figures(self.layers, self.heads)

    @property
    def rows(self) -> tuple[Row | Special, ...]:
        """What is claimed."""
        return rows(self.layers, self.heads)

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of weights from `key`, and of sentences from `data_key`."""
        return self.problem(self.deep_weights, key, data_key)

    def deep_weights(self, rng: np.random.Generator) -> DeepTransformer:
        """The model at its initialisation."""
        shallow = self.weights(rng)
        matrices = [(shallow.w_v, shallow.w_k, shallow.w_q)]
        for _ in range(1, self.layers):
            v, k, q = (self.matrix(rng, "square") for _ in range(3))
            matrices.append((v, k, q))
        layers = tuple(Attention(v, k, q, self.heads) for v, k, q in matrices)
        return DeepTransformer(shallow.w, layers, shallow.signs)
