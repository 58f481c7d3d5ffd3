"""The transformer's observables, from the coupled system's state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...invariants import SAVE
from ...observables import Event, Observable, Snapshot
from ..cooccurrence.data import CLASSES, SPECIAL, WORDS
from ..cooccurrence.measures import (
    MATRICES,
    largest_random,
    rate,
    relative_change,
    special_weights,
)
from .system import attend, squared_speed, velocity


def _by_class(values: Float[Array, " n"], kinds: Int[Array, " n"]) -> Float[Array, " 4"]:
    return jax.ops.segment_sum(values, kinds, len(CLASSES))


def _losses(s: Snapshot) -> Array:
    return jax.nn.softplus(-attend(s.params, s.data.sizes, s.data.train).margins)


def _loss(s: Snapshot) -> Array:
    return jnp.mean(_losses(s))


def _class_loss(s: Snapshot) -> Array:
    losses, kinds = _losses(s), s.data.train.kinds
    return _by_class(losses, kinds) / _by_class(jnp.ones_like(losses), kinds)


def _class_gradient(s: Snapshot) -> Array:
    margins = attend(s.params, s.data.sizes, s.data.train).margins
    return _by_class(jax.nn.sigmoid(-margins), s.data.train.kinds)


def _test_loss(s: Snapshot) -> Array:
    return jnp.mean(jax.nn.softplus(-attend(s.params, s.data.sizes, s.data.test).margins))


def _min_margin(s: Snapshot) -> Array:
    return jnp.min(attend(s.params, s.data.sizes, s.data.train).margins)


def _attention_score(s: Snapshot) -> Array:
    return s.params.scores[:SPECIAL, :SPECIAL]


def _value_correlation(s: Snapshot) -> Array:
    return s.params.values[:SPECIAL, :SPECIAL]


def _response(s: Snapshot) -> Array:
    return s.params.response[:SPECIAL]


def _response_order(s: Snapshot) -> Array:
    """Positive where max(G1', G2') < -G3' < G1' + G2' (Lemma 4.3, its constant taken as 0)."""
    g1, g2, g3 = velocity(s.params, s.data.sizes, s.data.train).response[:SPECIAL]
    return jnp.minimum(-g3 - jnp.maximum(g1, g2), g1 + g2 + g3)


def _readout(s: Snapshot) -> Array:
    return s.params.readout


def _attention_weight(s: Snapshot) -> Array:
    train = s.data.train
    return special_weights(attend(s.params, s.data.sizes, train).attention, train.tokens)


def _is_trained_on(s: Snapshot) -> Bool[Array, " d"]:
    """Of every word, whether a training sentence has it; some are in test sentences alone."""
    return jnp.zeros(len(s.params.response), bool).at[s.data.train.tokens].set(True)


def _correlation_change(s: Snapshot) -> Array:
    trained = _is_trained_on(s)
    both = trained[:, None] & trained
    pairs = ((getattr(s.params, name), getattr(s.initial, name)) for name in MATRICES)
    return jnp.stack(
        [relative_change(jnp.where(both, x - y, 0), jnp.where(both, y, 0)) for x, y in pairs]
    )


def _random_score_change(s: Snapshot) -> Array:
    trained = _is_trained_on(s)
    change = jnp.where(trained[:, None] & trained, s.params.scores - s.initial.scores, 0)
    return largest_random(change, jnp.arange(len(change)))


def _grad_norm(s: Snapshot) -> Array:
    return jnp.sqrt(squared_speed(s.params, s.data.sizes, s.data.train))


_MOVING = (
    Observable("response", _response, (("word", WORDS),), "MLP response"),
    Observable("readout", _readout, label=r"$|W^\top a|^2$"),
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
    Observable("loss", _loss, label="training loss"),
    Observable("grad_norm", _grad_norm, label="gradient norm"),
    Observable("class_loss", _class_loss, (("class", CLASSES),), "training loss"),
    Observable("class_gradient", _class_gradient, (("class", CLASSES),), "sum of g over the class"),
    Observable("test_loss", _test_loss, label="test loss"),
    Observable("min_margin", _min_margin, label="smallest margin"),
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
        "random_score_change",
        _random_score_change,
        label="largest change of a score with a random word",
        save=SAVE,
    ),
)
EVENTS = (Event("min_margin", _min_margin), Event("response_order", _response_order))
