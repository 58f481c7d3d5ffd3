"""From the pixels of an image to the logits of ten digits."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..blocks import Block
from .data import CLASSES, SIDE

_PATCH = 2  # pixels along a side of what is a token of attention


class Convolution(eqx.Module):
    """Two convolutions of 3 x 3 neighbours and stride 2, each with ReLU, and a dense layer.

    A convolution is a dense layer on the nine neighbours of every place, side by side: inside of a
    loop XLA's own runs on a CPU ten times as long as outside, and a solver is a loop.

    Attributes:
        layers: from 9 neighbours of one channel to `channels`, from 9 neighbours of these to as
            many, and from 2 x 2 places to the logits. Inputs of the last two are ordered by place,
            then by channel.
    """

    layers: tuple[eqx.nn.Linear, ...]

    def __init__(self, channels: int) -> None:
        places = (SIDE // 4) ** 2
        sizes = ((9, channels), (9 * channels, channels), (places * channels, CLASSES))
        self.layers = tuple(eqx.nn.Linear(*size, key=jax.random.key(0)) for size in sizes)

    def __call__(self, pixels: Float[Array, " 64"]) -> Float[Array, " 10"]:
        """The logits of one image."""
        first, second, dense = self.layers
        x = pixels.reshape(SIDE, SIDE, 1)
        for layer in (first, second):
            x = jax.nn.relu(jax.vmap(jax.vmap(layer))(neighbours(x, 2)))
        return dense(x.ravel())


class Attention(eqx.Module):
    """One block of a transformer over the 16 patches of 2 x 2 pixels, and a dense layer.

    A vision transformer (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words") of one block,
    without normalisation, that reads all patches and not one of them.

    Attributes:
        embedding: from the pixels of a patch to the stream.
        positions: what is added to the stream of each patch, shape ``(16, width)``.
        blocks: the one block, its MLP twice as wide as the stream.
        readout: from all patches to the logits.
    """

    embedding: eqx.nn.Linear
    positions: Float[Array, "16 width"]
    blocks: tuple[Block]
    readout: eqx.nn.Linear

    def __init__(self, width: int, heads: int) -> None:
        key = jax.random.key(0)
        self.embedding = eqx.nn.Linear(_PATCH**2, width, use_bias=False, key=key)
        self.positions = jnp.zeros(((SIDE // _PATCH) ** 2, width))
        self.blocks = (Block(width, heads, 2 * width, key),)
        self.readout = eqx.nn.Linear(self.positions.size, CLASSES, key=key)

    def __call__(self, pixels: Float[Array, " 64"]) -> Float[Array, " 10"]:
        """The logits of one image."""
        (block,) = self.blocks
        x = block(jax.vmap(self.embedding)(patches(pixels)) + self.positions)
        return self.readout(x.ravel())


def neighbours(x: Float[Array, "h w c"], stride: int) -> Float[Array, "k l 9*c"]:
    """The 3 x 3 places around every `stride`-th one, zero beyond the border."""
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
    height, width = x.shape[:2]
    parts = [
        padded[i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)
    ]
    return jnp.concatenate(parts, axis=-1)


def patches(pixels: Float[Array, " 64"]) -> Float[Array, "16 4"]:
    """The squares that an image is cut into, row by row."""
    count = SIDE // _PATCH
    rows = pixels.reshape(count, _PATCH, count, _PATCH)
    return jnp.swapaxes(rows, 1, 2).reshape(count**2, _PATCH**2)
