"""The loss, what is recorded along a run, and what a convolution conserves.

ReLU passes factors on: with its incoming weights and its bias times c > 0, and its outgoing weights
divided by c, a channel is the same. The loss does not change along this symmetry, and so, channel
by channel,

    |incoming weights|^2 + bias^2 - |outgoing weights|^2

is constant along the flow (Du, Hu & Lee 2018, "Algorithmic Regularization in Learning Deep
Homogeneous Models: Layers are Automatically Balanced", which sums over channels).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...invariants import SAVE, relative_drift
from ...observables import Observable, Snapshot
from ..blocks import balances
from .data import Data, Images

Model = Literal["logistic", "mlp", "convolution", "attention"]


def sample_loss(model: Any, data: Data) -> Float[Array, " n"]:
    """The cross-entropy of every training image."""
    return _sample_losses(model, data.train)


def observables(model: Model, heads: int) -> tuple[Observable, ...]:
    """Everything that is recorded of one of the models."""
    match model:
        case "convolution":
            return (*_OF_OUTPUTS, _CHANNELS)
        case "attention":
            return (*_OF_OUTPUTS, *balances(1, heads))
        case _:
            return _OF_OUTPUTS


def _sample_losses(model: Any, images: Images) -> Float[Array, " n"]:
    logits = jax.nn.log_softmax(jax.vmap(model)(images.pixels))
    return -jnp.take_along_axis(logits, images.digits[:, None], axis=1)[:, 0]


def _accuracy(model: Any, images: Images) -> Float[Array, ""]:
    shown = jnp.argmax(jax.vmap(model)(images.pixels), axis=1).astype(jnp.int32)
    return jnp.mean(shown == images.digits, dtype=images.pixels.dtype)


def _test_loss(s: Snapshot) -> Array:
    return jnp.mean(_sample_losses(s.params, s.data.test))


def _train_accuracy(s: Snapshot) -> Array:
    return _accuracy(s.params, s.data.train)


def _test_accuracy(s: Snapshot) -> Array:
    return _accuracy(s.params, s.data.test)


def _balance_channels(s: Snapshot) -> Float[Array, " layer"]:
    """The relative drift of each convolution's channels, all together."""
    drifts = []
    for i, (layer, after) in enumerate(pairwise(s.params.layers)):
        start, after_start = s.initial.layers[i : i + 2]
        incoming = _square_change(_incoming(layer), _incoming(start))
        outgoing = _square_change(after.weight, after_start.weight)
        places = outgoing.reshape(-1, len(incoming))  # by place, then by channel
        drifts.append(relative_drift(incoming, jnp.sum(places, axis=0)))
    return jnp.stack(drifts)


def _incoming(layer: eqx.nn.Linear) -> Float[Array, "inputs+1 channel"]:
    assert layer.bias is not None
    return jnp.vstack([layer.weight.T, layer.bias])


def _square_change(now: Float[Array, "k n"], then: Float[Array, "k n"]) -> Float[Array, " n"]:
    """The squared norms of columns less what they were, written such that little cancels."""
    return jnp.sum((now - then) * (now + then), axis=0)


_OF_OUTPUTS = (
    Observable("test_loss", _test_loss, label="test loss"),
    Observable("accuracy", _train_accuracy, label="training accuracy"),
    Observable("test_accuracy", _test_accuracy, label="test accuracy"),
)
_CHANNELS = Observable(
    "balance_channels",
    _balance_channels,
    (("layer", (1, 2)),),
    "drift of squared norms into less out of channels",
    save=SAVE,
)
