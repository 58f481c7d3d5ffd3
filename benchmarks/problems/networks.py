"""Weights of equinox models, drawn on the host."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# The standard deviation of a weight from the layer's shape, (outputs, inputs).
Deviation = Callable[[tuple[int, int]], float]


def fan_in(gain: float) -> Deviation:
    """gain / sqrt(inputs); sqrt(2) is He's gain, 1 LeCun's."""
    return lambda shape: gain / math.sqrt(shape[1])


def glorot(shape: tuple[int, int]) -> float:
    """sqrt(2 / (inputs + outputs)) of a dense layer."""
    return math.sqrt(2 / (shape[0] + shape[1]))


def redrawn(model: Any, rng: np.random.Generator, deviation: Deviation) -> Any:
    """`model` with normal weights and no biases in every dense layer.

    Args:
        model: a model, or shapes in place of its arrays.
        rng: drawn from in the order of the layers.
        deviation: the standard deviation of a layer's weights.
    """

    def is_layer(node: Any) -> bool:
        return isinstance(node, eqx.nn.Linear)

    def layer(node: Any) -> Any:
        if not is_layer(node):
            return node
        weight = deviation(node.weight.shape) * rng.normal(size=node.weight.shape)
        return eqx.tree_at(
            lambda each: (each.weight, each.bias),
            node,
            (jax.device_put(weight), jax.device_put(np.zeros(node.bias.shape))),
        )

    return jax.tree.map(layer, model, is_leaf=is_layer)


def half_square(prediction: Float[Array, " n"], target: Float[Array, " n"]) -> Float[Array, ""]:
    """mean (prediction - target)^2 / 2."""
    return jnp.mean((prediction - target) ** 2) / 2
