"""A one-layer transformer that learns to recognise that two words occur together.

Yang, Kailkhura, Wang & Liang, "Training Dynamics of Transformers to Recognize Word Co-occurrence
via Gradient Flow Analysis", NeurIPS 2024, arXiv 2410.09605; numbers below are that paper's.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from pydantic import Field, model_validator

from ..analysis import positive_since
from ..observables import Event, Observable, Snapshot
from ..plotting import Figure, Line, Panel, Reference
from ..problem import Problem
from ..trajectory import Trajectory
from .task import Task

FIRST, SECOND, COMMON = 0, 1, 2  # tokens of the words mu_1, mu_2 (targets) and mu_3
WORDS = (1, 2, 3)  # what observables call those three
CLASSES = ("both", "first", "second", "neither")  # I_1 to I_4 of Definition 2.1


class Samples(NamedTuple):
    """Sentences with what they are to be recognised as.

    Attributes:
        tokens: the words of each sentence; the embeddings are the standard basis, so that a
            token is an index.
        labels: +1 where both targets occur, else -1.
        kinds: index into `CLASSES`.
    """

    tokens: Int[Array, "n length"]
    labels: Float[Array, " n"]
    kinds: Int[Array, " n"]


class Data(NamedTuple):
    """What is trained on, and fresh sentences of the same distribution."""

    train: Samples
    test: Samples


class Transformer(eqx.Module):
    """F(X) = sum_l sum_j a_j w_j^T W_V X softmax(X^T W_K^T W_Q x_l / sqrt(m)) (equation 1).

    Attributes:
        w: the MLP's rows w_j, shape ``(neurons, width)``.
        w_v: value matrix, shape ``(width, vocabulary)``; likewise `w_k` and `w_q`.
        signs: the fixed output weights a_j = +-1, shape ``(neurons,)``; not trained, so integers.
    """

    w: Float[Array, "neurons width"]
    w_v: Float[Array, "width vocabulary"]
    w_k: Float[Array, "width vocabulary"]
    w_q: Float[Array, "width vocabulary"]
    signs: Int[Array, " neurons"]

    def __call__(self, tokens: Int[Array, "n length"]) -> Float[Array, " n"]:
        """F of each sentence."""
        return jnp.sum(self.pooled(tokens) * self.response()[tokens], axis=1)

    def response(self) -> Float[Array, " vocabulary"]:
        """G(mu) = sum_j a_j w_j^T W_V mu: the linear MLP's response to every word."""
        return self.readout() @ self.w_v

    def readout(self) -> Float[Array, " width"]:
        """u = W^T a."""
        return self.signs.astype(self.w.dtype) @ self.w

    def pooled(self, tokens: Int[Array, "n length"]) -> Float[Array, "n length"]:
        """For each position the attention it receives, summed over queries."""
        return jax.nn.softmax(self._scores(tokens), axis=1).sum(axis=2)

    def _scores(self, tokens: Int[Array, "n length"]) -> Float[Array, "n key query"]:
        """x_k^T W_K^T W_Q x_l / sqrt(m) for all pairs of positions of each sentence."""
        n, length = tokens.shape
        width, vocabulary = self.w_k.shape
        scale = 1 / math.sqrt(width)
        # One table of all pairs of words, where the vocabulary is small beside the sentences,
        # is the faster; its size does not depend on n. Else the words of each sentence alone.
        if vocabulary**2 <= 8 * n * length**2:
            table = (self.w_k.T @ self.w_q) * scale
            return table[tokens[:, :, None], tokens[:, None, :]]
        keys, queries = self.w_k[:, tokens], self.w_q[:, tokens]
        return jnp.einsum("mnk,mnl->nkl", keys, queries) * scale


def sample_loss(model: Transformer, data: Data) -> Float[Array, " n"]:
    """log(1 + exp(-y F)) of every training sentence; finite at any margin."""
    return jax.nn.softplus(-margins(model, data.train))


def margins(model: Transformer, samples: Samples) -> Float[Array, " n"]:
    """y F(X) of every sentence."""
    return samples.labels * model(samples.tokens)


def _by_class(values: Float[Array, " n"], kinds: Int[Array, " n"]) -> Float[Array, " 4"]:
    return jnp.zeros(len(CLASSES), values.dtype).at[kinds].add(values)


def _class_loss(s: Snapshot) -> Array:
    train = s.data.train
    losses = sample_loss(s.params, s.data)
    return _by_class(losses, train.kinds) / _by_class(jnp.ones_like(losses), train.kinds)


def _class_gradient(s: Snapshot) -> Array:
    return _by_class(jax.nn.sigmoid(-margins(s.params, s.data.train)), s.data.train.kinds)


def _test_loss(s: Snapshot) -> Array:
    return jnp.mean(jax.nn.softplus(-margins(s.params, s.data.test)))


def _min_margin(s: Snapshot) -> Array:
    return jnp.min(margins(s.params, s.data.train))


def _attention_score(s: Snapshot) -> Array:
    return s.params.w_k[:, :3].T @ s.params.w_q[:, :3]


def _value_correlation(s: Snapshot) -> Array:
    return s.params.w_v[:, :3].T @ s.params.w_v[:, :3]


def _response(s: Snapshot) -> Array:
    return s.params.response()[:3]


def _response_slope(model: Transformer, samples: Samples) -> Float[Array, " vocabulary"]:
    """G' = m_1 W_V^T W_V c + |u|^2 c, with c_w = mean_i g_i y_i sum_l p_il at word w (App. C)."""
    pull = jax.nn.sigmoid(-margins(model, samples)) * samples.labels
    received = pull[:, None] * model.pooled(samples.tokens) / len(samples.labels)
    c = jnp.zeros(model.w_v.shape[1], received.dtype).at[samples.tokens].add(received)
    u = model.readout()
    return model.w.shape[0] * (model.w_v.T @ (model.w_v @ c)) + (u @ u) * c


def _response_order(s: Snapshot) -> Array:
    """Positive where max(G1', G2') < -G3' < G1' + G2' (Lemma 4.3, its constant taken as 0)."""
    g1, g2, g3 = _response_slope(s.params, s.data.train)[:3]
    return jnp.minimum(-g3 - jnp.maximum(g1, g2), g1 + g2 + g3)


def _drift(one: Array, other: Array) -> Array:
    """|one - other| relative to what each of the two moved: 0 where they move together."""
    moved = jnp.linalg.norm(one) + jnp.linalg.norm(other)
    return jnp.linalg.norm(one - other) / jnp.maximum(moved, jnp.finfo(moved.dtype).tiny)


def _balance_mlp(s: Snapshot) -> Array:
    a, b = s.params, s.initial
    return _drift(a.w.T @ a.w - b.w.T @ b.w, a.w_v @ a.w_v.T - b.w_v @ b.w_v.T)


def _balance_attention(s: Snapshot) -> Array:
    a, b = s.params, s.initial
    return _drift(a.w_k @ a.w_k.T - b.w_k @ b.w_k.T, a.w_q @ a.w_q.T - b.w_q @ b.w_q.T)


_CLASS = (("class", CLASSES),)
OBSERVABLES = (
    Observable("class_loss", _class_loss, _CLASS, "training loss"),
    Observable("class_gradient", _class_gradient, _CLASS, "sum of g over the class"),
    Observable("test_loss", _test_loss, label="test loss"),
    Observable("min_margin", _min_margin, label="smallest margin"),
    Observable(
        "attention_score",
        _attention_score,
        (("key", WORDS), ("query", WORDS)),
        "attention score correlation",
    ),
    Observable(
        "value_correlation",
        _value_correlation,
        (("word", WORDS), ("other", WORDS)),
        "value correlation",
    ),
    Observable("response", _response, (("word", WORDS),), "MLP response"),
    Observable("balance_mlp", _balance_mlp, label="drift of W^T W - W_V W_V^T"),
    Observable("balance_attention", _balance_attention, label="drift of W_K W_K^T - W_Q W_Q^T"),
)
EVENTS = (Event("min_margin", _min_margin), Event("response_order", _response_order))


def _score(key: int, query: int) -> Line:
    return Line(
        "attention_score",
        {"key": key, "query": query},
        rf"$\mu_{key}^\top W_K^\top W_Q\, \mu_{query}$",
    )


def _balance_ratio(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    second = trajectory.sel("class_gradient", **{"class": "first"})
    third = trajectory.sel("class_gradient", **{"class": "second"})
    return trajectory.times("class_gradient"), second / third


# Figure 1 (a) and (b) of the paper, then what its Section 4 argues with.
FIGURES = (
    Figure.both_time_scales(
        "attention",
        Panel(
            tuple(
                _score(key, query)
                for key, query in ((1, 2), (2, 1), (3, 1), (3, 2), (1, 1), (2, 2))
            ),
            ylabel="attention score correlation",
        ),
        "Attention score correlations among the target words 1, 2 and the common word 3.",
    ),
    Figure.both_time_scales(
        "loss",
        Panel(
            (
                Line("loss", label="mean", colour="black"),
                *(
                    Line("class_loss", {"class": kind}, label)
                    for kind, label in zip(
                        CLASSES,
                        ("both targets", "first only", "second only", "neither"),
                        strict=True,
                    )
                ),
            ),
            ylabel="training loss",
            yscale="log",
        ),
        "Training loss: the mean over all samples, and over each of the four kinds.",
    ),
    Figure.both_time_scales(
        "response",
        Panel(
            tuple(Line("response", {"word": i}, rf"$G(\mu_{i})$") for i in WORDS),
            ylabel="response of the MLP",
            references=(Reference(0.0),),
        ),
        "The MLP's response to the target words 1, 2 and to the common word 3.",
    ),
    Figure.both_time_scales(
        "balance",
        Panel(
            (Line(_balance_ratio, label=r"$S_2 / S_3$"),),
            ylabel=r"gradient balance $S_2 / S_3$",
            references=(Reference(0.5, 2.0, r"$[1/2,\, 2]$"),),
        ),
        "Automatic balancing of gradients: the ratio of the sums of g over the samples with the "
        "first and with the second target alone, and the interval of Lemma 4.4.",
    ),
)


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
    samples: Annotated[int, Field(ge=6, multiple_of=6)] = 60
    length: Annotated[int, Field(ge=3)] = 5
    vocabulary: Annotated[int, Field(ge=4)] = 64
    width: Annotated[int, Field(ge=1)] = 128
    neurons: Annotated[int, Field(ge=1)] = 256
    initialisation: Literal["kaiming-uniform", "kaiming-normal", "theory"] = "kaiming-uniform"
    unique_words: bool = False
    test_samples: Annotated[int, Field(ge=6, multiple_of=6)] = 600

    @model_validator(mode="after")
    def _enough_words(self) -> Cooccurrence:
        needed = self.random_words
        if self.unique_words and needed > self.vocabulary - 3:
            raise ValueError(
                f"unique_words needs {needed} random words for {self.samples} samples of length "
                f"{self.length}, and a vocabulary of {self.vocabulary} has "
                f"{self.vocabulary - 3}; set vocabulary to at least {needed + 3}"
            )
        return self

    @property
    def random_words(self) -> int:
        """Positions of the training set that hold a random word."""
        n, length = self.samples, self.length
        return n * (length - 1) - 2 * (n // 2) - 2 * (n // 6)

    def build(self, key: Array) -> Problem:
        """The problem for one draw of data and weights, from `key`.

        Everything is drawn on the host in float64, so that it does not depend on the device, and
        float32 runs start where float64 runs do, to rounding.
        """
        entropy = np.asarray(jax.random.key_data(key)).tolist()
        data_seed, test_seed, model_seed = np.random.SeedSequence(entropy).spawn(3)
        data = Data(
            self._draw(np.random.default_rng(data_seed), self.samples, self.unique_words),
            self._draw(np.random.default_rng(test_seed), self.test_samples, False),
        )
        return Problem(
            params=self._model(np.random.default_rng(model_seed)),
            data=data,
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
        return Transformer(
            w=self._matrix(rng, (self.neurons, self.width), self.neurons),
            w_v=self._matrix(rng, square, self.length * self.width),
            w_k=self._matrix(rng, square, self.length * self.width),
            w_q=self._matrix(rng, square, self.length * self.width),
            signs=jnp.asarray(rng.integers(0, 2, self.neurons, np.int32) * 2 - 1),
        )

    def _matrix(self, rng: np.random.Generator, shape: tuple[int, int], theory_fan: int) -> Array:
        if self.initialisation == "kaiming-uniform":
            bound = 1 / math.sqrt(shape[1])
            return jnp.asarray(rng.uniform(-bound, bound, shape))
        fan = theory_fan if self.initialisation == "theory" else shape[1] / 2
        return jnp.asarray(rng.normal(0.0, 1 / math.sqrt(fan), shape))

    def _draw(self, rng: np.random.Generator, n: int, unique: bool) -> Samples:
        """Definition 2.1 with exact class sizes."""
        kinds = np.repeat(np.arange(4), [n // 2, n // 6, n // 6, n // 6])
        count = (n, self.length)
        if unique:
            # One word for every position, drawn without replacement; only random positions
            # keep theirs, so the special ones need no distinct word.
            tokens = np.zeros(count, dtype=np.int32)
        else:
            tokens = rng.integers(3, self.vocabulary, count, dtype=np.int32)
        places = np.argsort(rng.random(count), axis=1)
        special = np.zeros(count, dtype=bool)
        rows = np.arange(n)
        for column, word, present in (
            (0, COMMON, kinds >= 0),
            (1, FIRST, kinds <= 1),
            (2, SECOND, (kinds == 0) | (kinds == 2)),
        ):
            where = rows[present], places[present, column]
            tokens[where], special[where] = word, True
        if unique:
            tokens[~special] = rng.permutation(np.arange(3, self.vocabulary))[: (~special).sum()]
        labels = np.where(kinds == 0, 1.0, -1.0)
        return Samples(jnp.asarray(tokens), jnp.asarray(labels), jnp.asarray(kinds, jnp.int32))
