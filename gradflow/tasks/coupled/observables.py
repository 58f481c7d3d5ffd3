"""The transformer's observables, from the coupled system's state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...observables import Event, Observable, Snapshot
from ..cooccurrence.data import CLASSES, SPECIAL, WORDS
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


def _grad_norm(s: Snapshot) -> Array:
    return jnp.sqrt(squared_speed(s.params, s.data.sizes, s.data.train))


OBSERVABLES = (
    Observable("loss", _loss, label="training loss"),
    Observable("grad_norm", _grad_norm, label="gradient norm"),
    Observable("class_loss", _class_loss, (("class", CLASSES),), "training loss"),
    Observable("class_gradient", _class_gradient, (("class", CLASSES),), "sum of g over the class"),
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
)
EVENTS = (Event("min_margin", _min_margin), Event("response_order", _response_order))
