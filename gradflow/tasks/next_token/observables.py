"""What is recorded along a run, and what tells the phases apart."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...observables import Event, Observable, Snapshot
from ..blocks import balances
from .data import NAMES
from .model import log_predictions, token_losses


def observables(
    order: int, length: int, layers: int, heads: int, context: int
) -> tuple[Observable, ...]:
    """Everything that is recorded of a model of these sizes."""
    ngram = (("ngram", NAMES[: order + 2]),)
    each = (("layer", tuple(range(1, layers + 1))), ("head", tuple(range(1, heads + 1))))
    weights = (*each, ("lag", tuple(range(context))))
    return (
        Observable("test_loss", _test_loss, label="test loss", units="nat"),
        Observable(
            "position_loss",
            _position_loss,
            (("position", tuple(range(1, length))),),
            "training loss by position",
            "nat",
        ),
        Observable("divergence", divergences, ngram, "divergence from n-grams", "nat"),
        Observable("ngram_loss", _ngram_loss, ngram, "training loss of n-grams", "nat"),
        Observable("loss_bound", _loss_bound, label="least training loss", units="nat"),
        Observable("attention_weight", _attention_weight, weights, "mean softmax weight"),
        *balances(layers, heads),
    )


def events(order: int) -> tuple[Event, ...]:
    """T1, T2, ...: where predictions are nearer to unigrams, bigrams, ... than to what precedes."""
    return tuple(Event(f"T{k}", _Nearer(k)) for k in range(1, order + 2))


def divergences(s: Snapshot) -> Float[Array, " ngram"]:
    """The mean of sum_x q(x) log(q(x) / p(x)) of every n-gram's q and the model's p, in nats."""
    predicted = log_predictions(s.params, s.data.train)
    return -jnp.mean(jnp.sum(s.data.ngrams * predicted, axis=3), axis=(1, 2)) - s.data.entropies


@dataclass(frozen=True)
class _Nearer:
    """Positive where predictions are nearer to one of the n-grams than to the one before."""

    ngram: int

    def __call__(self, s: Snapshot) -> Float[Array, ""]:
        found = divergences(s)
        return found[self.ngram - 1] - found[self.ngram]


def _test_loss(s: Snapshot) -> Array:
    return jnp.mean(token_losses(s.params, s.data.test))


def _position_loss(s: Snapshot) -> Array:
    return jnp.mean(token_losses(s.params, s.data.train), axis=0)


def _ngram_loss(s: Snapshot) -> Array:
    return s.data.entropies


def _loss_bound(s: Snapshot) -> Array:
    return s.data.bound


def _attention_weight(s: Snapshot) -> Float[Array, "layer head lag"]:
    """The mean over all positions that look at as many tokens as any."""
    tokens, context = s.data.train[:, :-1], s.params.biases.shape[2]
    weights = jax.vmap(s.params.attention)(tokens)
    queries = np.arange(context - 1, tokens.shape[1])
    return jnp.stack(
        [jnp.mean(weights[..., queries, queries - lag], axis=(0, 3)) for lag in range(context)],
        axis=2,
    )
