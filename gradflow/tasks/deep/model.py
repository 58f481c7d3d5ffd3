"""Several layers of attention, of several heads each, under one linear MLP.

With one layer and one head this is equation 1 of the paper.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# The vectors at the positions of a sentence, or words: their embeddings are the standard basis.
Inputs = Float[Array, "... length inputs"] | Int[Array, "... length"]


class Attention(eqx.Module):
    """One layer: o_l = concat_h sum_k p^h_kl W_V^h x_k.

    p^h_l = softmax_k(x_k^T W_K^hT W_Q^h x_l / sqrt(m/H)); head h of H has the h-th m/H of the m
    rows of each matrix (Vaswani et al. 2017, Section 3.2.2).

    Attributes:
        w_v: value matrix, shape ``(width, inputs)``; likewise `w_k` and `w_q`.
        heads: H, which divides the width.
    """

    w_v: Float[Array, "width inputs"]
    w_k: Float[Array, "width inputs"]
    w_q: Float[Array, "width inputs"]
    heads: int = eqx.field(static=True)

    def __call__(self, x: Inputs) -> Float[Array, "... length width"]:
        """What every position receives."""
        values = _by_head(mapped(self.w_v, x), self.heads)
        received = jnp.einsum("...hkl,...hkm->...lhm", self.weights(x), values)
        return received.reshape(*received.shape[:-2], -1)

    def weights(self, x: Inputs) -> Float[Array, "... head key query"]:
        """For each position the softmax weight of every key."""
        scale = 1 / math.sqrt(self.w_k.shape[0] // self.heads)
        return jax.nn.softmax(self.scores(x) * scale, axis=-2)

    def scores(self, x: Inputs) -> Float[Array, "... head key query"]:
        """x_k^T W_K^hT W_Q^h x_l for all pairs of positions."""
        keys, queries = (_by_head(mapped(w, x), self.heads) for w in (self.w_k, self.w_q))
        return jnp.einsum("...km,...lm->...kl", keys, queries)


class DeepTransformer(eqx.Module):
    """F(X) = sum_l sum_j a_j w_j^T o_l, with o_l of the last layer.

    Nothing bypasses a layer: words have d entries and what it makes of them m, and the flow would
    conserve less (see `observables`).

    Attributes:
        w: the MLP's rows w_j, shape ``(neurons, width)``.
        layers: the layers of attention: the first reads words, every other the one before.
        signs: the fixed output weights a_j = +-1, shape ``(neurons,)``; not trained, so integers.
    """

    w: Float[Array, "neurons width"]
    layers: tuple[Attention, ...]
    signs: Int[Array, " neurons"]

    def __call__(self, tokens: Int[Array, "n length"]) -> Float[Array, " n"]:
        """F of each sentence."""
        x = tokens
        for layer in self.layers:
            x = layer(x)
        return jnp.sum(x @ self.readout(), axis=1)

    def readout(self) -> Float[Array, " width"]:
        """u = W^T a."""
        return self.signs.astype(self.w.dtype) @ self.w

    def response(self) -> Float[Array, " vocabulary"]:
        """G(mu) = u^T W_V^(D) ... W_V^(1) mu, the response to a word that all attend to.

        A sentence of L times this word has F = L G(mu), whatever the scores.
        """
        x = jnp.arange(self.layers[0].w_v.shape[1])
        for layer in self.layers:
            x = mapped(layer.w_v, x)
        return x @ self.readout()

    def scores(self, words: Int[Array, " words"]) -> Float[Array, "layer head key query"]:
        """Scores between words: of a deeper layer, between what it reads where all attend to one.

        That is W_V^(D-1) ... W_V^(1) mu in layer D.
        """
        scores, x = [], words
        for layer in self.layers:
            scores.append(layer.scores(x))
            x = mapped(layer.w_v, x)
        return jnp.stack(scores)

    def attention(self, tokens: Int[Array, "n length"]) -> Float[Array, "layer n head key query"]:
        """For each position the softmax weight of every key."""
        weights, x = [], tokens
        for layer in self.layers:
            weights.append(layer.weights(x))
            x = layer(x)
        return jnp.stack(weights)


def mapped(matrix: Float[Array, "width inputs"], x: Inputs) -> Float[Array, "... length width"]:
    """W x at every position; of a word, that is a column of W."""
    return matrix.T[x] if jnp.issubdtype(x.dtype, jnp.integer) else x @ matrix.T


def _by_head(
    x: Float[Array, "... length width"], heads: int
) -> Float[Array, "... head length part"]:
    """Each head's part of the vector at every position."""
    return jnp.swapaxes(x.reshape(*x.shape[:-1], heads, -1), -3, -2)
