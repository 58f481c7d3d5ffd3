"""Handwritten digits: multinomial logistic regression and a small network.

The images are those that scikit-learn carries (Alpaydin & Kaynak, UCI Machine Learning
Repository, 1998): 1,797 of 8 x 8 pixels in ten classes.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from pydantic import Field

from ..observables import Observable, Snapshot
from ..plotting import Figure, Line, Panel
from ..problem import Problem
from .task import Task

_IMAGES = 1797


class Images(NamedTuple):
    """Pixels scaled to [0, 1], and the digit shown."""

    pixels: Float[Array, "n 64"]
    digits: Int[Array, " n"]


class Data(NamedTuple):
    """What is trained on, and all other images."""

    train: Images
    test: Images


def _sample_losses(model: eqx.nn.MLP, images: Images) -> Float[Array, " n"]:
    logits = jax.nn.log_softmax(jax.vmap(model)(images.pixels))
    return -jnp.take_along_axis(logits, images.digits[:, None], axis=1)[:, 0]


def sample_loss(model: eqx.nn.MLP, data: Data) -> Float[Array, " n"]:
    """The cross-entropy of every training image."""
    return _sample_losses(model, data.train)


def _accuracy(model: eqx.nn.MLP, images: Images) -> Float[Array, ""]:
    shown = jnp.argmax(jax.vmap(model)(images.pixels), axis=1).astype(jnp.int32)
    return jnp.mean(shown == images.digits, dtype=images.pixels.dtype)


def _test_loss(s: Snapshot) -> Array:
    return jnp.mean(_sample_losses(s.params, s.data.test))


def _train_accuracy(s: Snapshot) -> Array:
    return _accuracy(s.params, s.data.train)


def _test_accuracy(s: Snapshot) -> Array:
    return _accuracy(s.params, s.data.test)


OBSERVABLES = (
    Observable("test_loss", _test_loss, label="test loss"),
    Observable("accuracy", _train_accuracy, label="training accuracy"),
    Observable("test_accuracy", _test_accuracy, label="test accuracy"),
)

FIGURES = (
    Figure.both_time_scales(
        "loss",
        Panel(
            (Line("loss", label="training"), Line("test_loss", label="test")),
            ylabel="cross-entropy",
            yscale="log",
        ),
        "Cross-entropy on the training images and on all others.",
    ),
    Figure.both_time_scales(
        "accuracy",
        Panel(
            (Line("accuracy", label="training"), Line("test_accuracy", label="test")),
            ylabel="accuracy",
        ),
        "Share of images recognised.",
    ),
)


class Digits(Task):
    """Cross-entropy on scikit-learn's handwritten digits.

    Attributes:
        model: ``"logistic"``, multinomial logistic regression with biases, or ``"mlp"``, one
            hidden layer of tanh units.
        hidden: hidden units of the network; unused by logistic regression.
        samples: training images, drawn at random; the other images are the test set.

    >>> import gradflow as gf
    >>> import jax
    >>> problem = gf.tasks.Digits(samples=50).build(jax.random.key(0))
    >>> problem.size, problem.data.train.pixels.shape  # ten classes of 64 pixels and a bias
    (650, (50, 64))
    """

    observables: ClassVar = OBSERVABLES
    figures: ClassVar = FIGURES

    kind: Literal["digits"] = "digits"
    model: Literal["logistic", "mlp"] = "logistic"
    hidden: Annotated[int, Field(ge=1, lt=2**31)] = 32
    samples: Annotated[int, Field(ge=1, lt=_IMAGES)] = 1000

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem for one draw of the weights from `key`, and of the images from `data_key`.

        Weights are drawn in float32 and converted, so that runs in float32 and in float64 start
        at the same point.
        """
        # Imported here: it takes as long as everything else together.
        from sklearn.datasets import load_digits

        split_key, _ = jax.random.split(key if data_key is None else data_key)
        _, model_key = jax.random.split(key)
        pixels, digits = load_digits(return_X_y=True)
        order = np.asarray(jax.random.permutation(split_key, len(digits)))
        parts = np.split(order, [self.samples])
        train, test = (
            Images(*map(jax.device_put, (pixels[part] / 16.0, digits[part].astype(np.int32))))
            for part in parts
        )
        model = eqx.nn.MLP(
            in_size=64,
            out_size=10,
            width_size=self.hidden,
            depth=1 if self.model == "mlp" else 0,
            activation=jnp.tanh,
            dtype=jnp.float32,
            key=model_key,
        )
        return Problem(
            params=jax.tree.map(lambda x: x.astype(float) if eqx.is_array(x) else x, model),
            data=Data(train, test),
            sample_loss=sample_loss,
            observables=self.observables,
        )
