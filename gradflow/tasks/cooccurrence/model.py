"""The transformer of equation 1, and its loss."""

from __future__ import annotations

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .data import Data, Samples

Model = Callable[[Int[Array, "n length"]], Float[Array, " n"]]  # F of each sentence


class Transformer(eqx.Module):
    """F(X) = sum_l sum_j a_j w_j^T W_V X softmax(X^T W_K^T W_Q x_l / sqrt(m)).

    Attributes:
        w: the MLP's rows w_j, shape ``(neurons, width)``.
        w_v: value matrix, shape ``(width, vocabulary)``; likewise `w_k` and `w_q`.
        signs: the fixed output weights a_j = +-1, shape ``(neurons,)``; not trained, so integers.
    """

    w: Float[Array, "neurons width"]
    w_v: Float[Array, "width vocabulary"]
    w_k: Float[Array, "width vocabulary"]
    w_q: Float[Array, "width vocabulary"]
    signs: Int[Array, " neurons"]

    def __call__(self, tokens: Int[Array, "n length"]) -> Float[Array, " n"]:
        """F of each sentence."""
        return jnp.sum(self.received(tokens) * self.response()[tokens], axis=1)

    def response(self) -> Float[Array, " vocabulary"]:
        """G(mu) = sum_j a_j w_j^T W_V mu: the linear MLP's response to every word."""
        return self.readout() @ self.w_v

    def readout(self) -> Float[Array, " width"]:
        """u = W^T a."""
        return self.signs.astype(self.w.dtype) @ self.w

    def received(self, tokens: Int[Array, "n length"]) -> Float[Array, "n length"]:
        """For each position the attention it receives, summed over queries."""
        return self.attention(tokens).sum(axis=2)

    def attention(self, tokens: Int[Array, "n length"]) -> Float[Array, "n key query"]:
        """For each position the softmax weight of every key."""
        return jax.nn.softmax(self._logits(tokens), axis=1)

    def _logits(self, tokens: Int[Array, "n length"]) -> Float[Array, "n key query"]:
        """x_k^T W_K^T W_Q x_l / sqrt(m) for all pairs of positions of each sentence."""
        n, length = tokens.shape
        width, vocabulary = self.w_k.shape
        scale = 1 / math.sqrt(width)
        # The faster of two ways: one table of all pairs of words, where that is small beside the
        # sentences (its size does not depend on n), else the words of each sentence alone.
        if vocabulary**2 <= 16 * n * length**2:
            table = (self.w_k.T @ self.w_q) * scale
            return table[tokens[:, :, None], tokens[:, None, :]]
        keys, queries = self.w_k.T[tokens], self.w_q.T[tokens]
        return jnp.einsum("nkm,nlm->nkl", keys, queries) * scale


def margins(model: Model, samples: Samples) -> Float[Array, " n"]:
    """y F(X) of every sentence."""
    return samples.labels * model(samples.tokens)


def sample_loss(model: Model, data: Data) -> Float[Array, " n"]:
    """log(1 + exp(-y F)) of every training sentence; finite at any margin."""
    return jax.nn.softplus(-margins(model, data.train))
