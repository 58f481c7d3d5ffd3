"""A convolutional network of a million parameters on scikit-learn's handwritten digits.

A share of the labels is replaced by random ones: with the true ones alone the loss is soon small,
and the sharpness of a cross-entropy falls with it.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import gradflow as gf
from gradflow.tasks.digits.models import neighbours

from .case import Case
from .networks import fan_in, redrawn

_SAMPLES = 256
_RANDOM_LABELS = 0.2


class Data(NamedTuple):
    """Pixels scaled to [0, 1], and what is learnt as the digit shown."""

    pixels: Float[Array, "n 8 8"]
    digits: Int[Array, " n"]


class ConvNet(eqx.Module):
    """Two 3 x 3 convolutions of 16 and 64 channels, the first of stride 2, and two dense layers.

    Of the 1,003,050 parameters the dense layer between holds 984,000.

    A convolution is a dense layer on the nine neighbours of every place, side by side: inside of a
    loop XLA's own runs on a CPU ten times as long as outside, and a solver is a loop.

    Attributes:
        first: from 9 neighbours of one channel to 16 channels.
        second: from 9 neighbours of 16 channels to 64.
        dense: from 4 x 4 places of 64 channels to 960 units.
        readout: to ten logits.
    """

    first: eqx.nn.Linear
    second: eqx.nn.Linear
    dense: eqx.nn.Linear
    readout: eqx.nn.Linear

    def __init__(self, key: Array):
        keys = jax.random.split(key, 4)
        self.first = eqx.nn.Linear(9, 16, key=keys[0])
        self.second = eqx.nn.Linear(9 * 16, 64, key=keys[1])
        self.dense = eqx.nn.Linear(4 * 4 * 64, 960, key=keys[2])
        self.readout = eqx.nn.Linear(960, 10, key=keys[3])

    def __call__(self, pixels: Float[Array, "n 8 8"]) -> Float[Array, "n 10"]:
        """The logits of every image."""
        x = jax.nn.gelu(_affine(self.first, _around(pixels[..., None], stride=2)))
        x = jax.nn.gelu(_affine(self.second, _around(x, stride=1)))
        x = jax.nn.gelu(_affine(self.dense, x.reshape(len(x), -1)))
        return _affine(self.readout, x)


def _around(x: Float[Array, "n h w c"], stride: int) -> Float[Array, "n k l 9*c"]:
    return jax.vmap(partial(neighbours, stride=stride))(x)


def _affine(layer: eqx.nn.Linear, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outs"]:
    """The layer on the last axis; one matrix product for all others together."""
    return x @ layer.weight.T + layer.bias


def sample_loss(model: ConvNet, data: Data) -> Float[Array, " n"]:
    """The cross-entropy of every image."""
    logits = jax.nn.log_softmax(model(data.pixels))
    return -jnp.take_along_axis(logits, data.digits[:, None], axis=1)[:, 0]


def _make(seed: int) -> gf.Problem:
    # Imported here: it takes as long as everything else together.
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(seed)
    pixels, digits = load_digits(return_X_y=True)
    chosen = rng.choice(len(digits), _SAMPLES, replace=False)
    labels = digits[chosen].astype(np.int32)
    replaced = rng.random(_SAMPLES) < _RANDOM_LABELS
    labels[replaced] = rng.integers(0, 10, replaced.sum())
    data = Data(*map(jax.device_put, (pixels[chosen].reshape(-1, 8, 8) / 16, labels)))
    model = redrawn(eqx.filter_eval_shape(ConvNet, jax.random.key(0)), rng, fan_in(math.sqrt(2)))
    return gf.Problem(params=model, data=data, sample_loss=sample_loss)


CASES = (
    Case(
        "digits",
        "convolutional network of a million parameters learns 256 digits, a fifth mislabelled",
        _make,
        30.0,
        frozenset({"stiff", "large"}),
    ),
)
