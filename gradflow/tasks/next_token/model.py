"""A causal transformer, and its loss."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..blocks import Block
from .data import Data


class CausalTransformer(eqx.Module):
    """Logits of the token after every position, from this one and those shortly before.

    Every layer attends to the last `context` positions, the present one included, with a learnt
    bias b of every lag in place of an embedding of positions (Press, Smith & Lewis 2022, "Train
    Short, Test Long", where it is fixed). So what it says depends on the last
    1 + layers (context - 1) tokens alone, and nowhere on where in the sequence they stand.

    Attributes:
        embedding: a vector for every token, shape ``(vocabulary, width)``.
        biases: b of each head and lag, shape ``(layers, heads, context)``; lag 0 is the present.
        blocks: the layers.
        unembedding: from the stream to logits.
    """

    embedding: Float[Array, "vocabulary width"]
    biases: Float[Array, "layer head context"]
    blocks: tuple[Block, ...]
    unembedding: eqx.nn.Linear

    def __init__(
        self, vocabulary: int, width: int, layers: int, heads: int, neurons: int, context: int
    ) -> None:
        key = jax.random.key(0)
        self.embedding = jnp.zeros((vocabulary, width))
        self.biases = jnp.zeros((layers, heads, context))
        self.blocks = tuple(Block(width, heads, neurons, key) for _ in range(layers))
        self.unembedding = eqx.nn.Linear(width, vocabulary, key=key)

    def __call__(self, tokens: Int[Array, " length"]) -> Float[Array, "length vocabulary"]:
        """The logits of one sequence."""
        return self._run(tokens)[0]

    def attention(self, tokens: Int[Array, " length"]) -> Float[Array, "layer head query key"]:
        """For each position, as a query, the softmax weight of every key."""
        return self._run(tokens)[1]

    def _run(self, tokens: Int[Array, " length"]) -> tuple[Array, Array]:
        x, weights = self.embedding[tokens], []
        for block, biases in zip(self.blocks, self.biases, strict=True):
            bias = _by_lag(biases, len(tokens))
            weights.append(block.attention.weights(x, bias))
            x = block(x, bias)
        return jax.vmap(self.unembedding)(x), jnp.stack(weights)


def lags(length: int) -> Int[np.ndarray, "query key"]:
    """How far before a query a key stands; negative behind it."""
    places = np.arange(length)
    return places[:, None] - places


def _by_lag(biases: Float[Array, "head context"], length: int) -> Float[Array, "head query key"]:
    """The bias of every pair of positions; minus infinity where a query does not look."""
    context = biases.shape[1]
    lag = lags(length)
    seen = (lag >= 0) & (lag < context)
    return jnp.where(seen, biases[:, np.clip(lag, 0, context - 1)], -jnp.inf)


def log_predictions(
    model: CausalTransformer, tokens: Int[Array, "n length"]
) -> Float[Array, "n length-1 vocabulary"]:
    """The logarithms of the probabilities of the next token, at every position but the last."""
    return jax.nn.log_softmax(jax.vmap(model)(tokens[:, :-1]))


def token_losses(
    model: CausalTransformer, tokens: Int[Array, "n length"]
) -> Float[Array, "n length-1"]:
    """The cross-entropy of every token but the first, in nats."""
    predicted = log_predictions(model, tokens)
    return -jnp.take_along_axis(predicted, tokens[:, 1:, None], axis=2)[..., 0]


def sample_loss(model: CausalTransformer, data: Data) -> Float[Array, " n"]:
    """The mean cross-entropy of every training sequence's tokens."""
    return jnp.mean(token_losses(model, data.train), axis=1)
