"""What the paper follows along a run."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._linalg import positive
from ...invariants import SAVE, gram_change, relative_drift
from ...observables import Event, Observable, Snapshot
from .data import CLASSES, SPECIAL, WORDS, Samples
from .measures import (
    MATRICES,
    largest_random,
    rate,
    relative_change,
    special_weights,
    training_words,
)
from .model import Transformer, margins, sample_loss


def _by_class(values: Float[Array, " n"], kinds: Int[Array, " n"]) -> Float[Array, " 4"]:
    return jnp.zeros(len(CLASSES), values.dtype).at[kinds].add(values)


def _class_loss(s: Snapshot) -> Array:
    losses, kinds = sample_loss(s.params, s.data), s.data.train.kinds
    return _by_class(losses, kinds) / _by_class(jnp.ones_like(losses), kinds)


def _class_gradient(s: Snapshot) -> Array:
    return _by_class(jax.nn.sigmoid(-margins(s.params, s.data.train)), s.data.train.kinds)


def _test_loss(s: Snapshot) -> Array:
    return jnp.mean(jax.nn.softplus(-margins(s.params, s.data.test)))


def _min_margin(s: Snapshot) -> Array:
    return jnp.min(margins(s.params, s.data.train))


def _attention_score(s: Snapshot) -> Array:
    return s.params.w_k[:, :SPECIAL].T @ s.params.w_q[:, :SPECIAL]


def _value_correlation(s: Snapshot) -> Array:
    return s.params.w_v[:, :SPECIAL].T @ s.params.w_v[:, :SPECIAL]


def _response(s: Snapshot) -> Array:
    return s.params.response()[:SPECIAL]


def _response_slope(model: Transformer, samples: Samples) -> Float[Array, " vocabulary"]:
    """G' = m_1 W_V^T W_V c + |u|^2 c, with c_w = mean_i g_i y_i sum_l p_il at word w (App. C)."""
    pull = jax.nn.sigmoid(-margins(model, samples)) * samples.labels
    received = pull[:, None] * model.received(samples.tokens) / len(pull)
    c = jnp.zeros(model.w_v.shape[1], received.dtype).at[samples.tokens].add(received)
    u = model.readout()
    return model.w.shape[0] * (model.w_v.T @ (model.w_v @ c)) + (u @ u) * c


def _response_order(s: Snapshot) -> Array:
    """Positive where max(G1', G2') < -G3' < G1' + G2' (Lemma 4.3, its constant taken as 0)."""
    g1, g2, g3 = _response_slope(s.params, s.data.train)[:SPECIAL]
    return jnp.minimum(-g3 - jnp.maximum(g1, g2), g1 + g2 + g3)


def _readout(s: Snapshot) -> Array:
    u = s.params.readout()
    return u @ u


def _attention_weight(s: Snapshot) -> Array:
    tokens = s.data.train.tokens
    return special_weights(s.params.attention(tokens), tokens)


def _columns(
    s: Snapshot,
) -> tuple[Int[Array, " d"], Callable[[Array], Float[Array, "width d"]]]:
    """The words that are trained on, and what takes their columns; zeros beyond the last word."""
    words = training_words(s.data.train, s.params.w_v.shape[1])
    return words, lambda matrix: jnp.where(words >= 0, matrix[:, words], 0.0)


def _score_change(now: Transformer, then: Transformer, of: Callable[[Array], Array]) -> Array:
    """W_K^T W_Q less what it was, written such that little cancels."""
    keys, queries = of(now.w_k - then.w_k), of(now.w_q - then.w_q)
    return keys.T @ of(now.w_q) + of(then.w_k).T @ queries


def _correlation_change(s: Snapshot) -> Array:
    now, then, (_, of) = s.params, s.initial, _columns(s)
    scores = _score_change(now, then, of)
    pairs = ((now.w_v, then.w_v), (now.w_k, then.w_k), (now.w_q, then.w_q))
    grams = (relative_change(gram_change(of(x), of(y)), of(y).T @ of(y)) for x, y in pairs)
    return jnp.stack([relative_change(scores, of(then.w_k).T @ of(then.w_q)), *grams])


def _neuron_change(s: Snapshot) -> Array:
    """Of the <w_i, w_j>: with X = (W - W_0) (W + W_0)^T their change is (X + X^T) / 2.

    Its square is (|X|^2 + tr X^2) / 2, for which there are products of the smaller size m.
    """
    now, then = s.params.w, s.initial.w
    less, more = now - then, now + then
    crossed = more.T @ less
    square = jnp.sum((less.T @ less) * (more.T @ more)) + jnp.sum(crossed * crossed.T)
    return jnp.sqrt(jnp.maximum(square, 0.0) / 2) / positive(jnp.linalg.norm(then.T @ then))


def _random_score_change(s: Snapshot) -> Array:
    words, of = _columns(s)
    return largest_random(_score_change(s.params, s.initial, of), words)


def _balance_mlp(s: Snapshot) -> Array:
    now, then = s.params, s.initial
    return relative_drift(gram_change(now.w, then.w), gram_change(now.w_v.T, then.w_v.T))


def _balance_attention(s: Snapshot) -> Array:
    now, then = s.params, s.initial
    return relative_drift(gram_change(now.w_k.T, then.w_k.T), gram_change(now.w_q.T, then.w_q.T))


_CLASS = (("class", CLASSES),)
# Of every model of the sentences, and of every one with a linear MLP on top.
OF_OUTPUTS = (
    Observable("class_loss", _class_loss, _CLASS, "training loss"),
    Observable("class_gradient", _class_gradient, _CLASS, "sum of g over the class"),
    Observable("test_loss", _test_loss, label="test loss"),
    Observable("min_margin", _min_margin, label="smallest margin"),
)
RESPONSE = Observable("response", _response, (("word", WORDS),), "MLP response")
READOUT = Observable("readout", _readout, label=r"$|W^\top a|^2$")
_MOVING = (
    RESPONSE,
    READOUT,
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
    Observable(
        "attention_weight",
        _attention_weight,
        (("key", WORDS), ("query", WORDS)),
        "mean softmax weight",
        save=SAVE,
    ),
)
OBSERVABLES = (
    *OF_OUTPUTS,
    *_MOVING,
    *map(rate, _MOVING),
    Observable(
        "correlation_change",
        _correlation_change,
        (("matrix", MATRICES),),
        "relative change of correlations of words",
        save=SAVE,
    ),
    Observable(
        "neuron_change", _neuron_change, label="relative change of neurons' products", save=SAVE
    ),
    Observable(
        "random_score_change",
        _random_score_change,
        label="largest change of a score with a random word",
        save=SAVE,
    ),
    Observable("balance_mlp", _balance_mlp, label=r"drift of $W^\top W - W_V W_V^\top$", save=SAVE),
    Observable(
        "balance_attention",
        _balance_attention,
        label=r"drift of $W_K W_K^\top - W_Q W_Q^\top$",
        save=SAVE,
    ),
)
MIN_MARGIN = Event("min_margin", _min_margin)
EVENTS = (MIN_MARGIN, Event("response_order", _response_order))
