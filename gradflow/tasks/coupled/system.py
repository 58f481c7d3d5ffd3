"""The closed system of ordinary differential equations for what the transformer's loss depends on.

Appendix C of the paper, and for S, K and Q the same argument (the project's own derivation). With

    g_i = 1 / (1 + exp(y_i F_i)),
    c = (1/n) sum_i g_i y_i sum_l X_i p_il,
    M = (1/(n sqrt m)) sum_i g_i y_i sum_l X_i (diag(p_il) - p_il p_il^T) X_i^T G x_il^T,

c in R^d and M in R^(d x d), key by query, which depend on G and S alone,

    G' = m_1 B c + A c       A' = 2 m_1 G . c       B' = G c^T + c G^T
    S' = M Q + K M           K' = M S^T + S M^T     Q' = M^T S + S^T M.

Its size depends neither on the width m nor on the number m_1 of neurons.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..cooccurrence.data import Samples


class State(NamedTuple):
    """What the transformer's loss, and all that drives it, depend on; d words.

    Attributes:
        response: G(mu) = sum_j a_j w_j^T W_V mu of every word.
        readout: A = |u|^2 with u = W^T a.
        values: B = W_V^T W_V.
        scores: S = W_K^T W_Q, key by query.
        keys: K = W_K^T W_K.
        queries: Q = W_Q^T W_Q.
    """

    response: Float[Array, " d"]
    readout: Float[Array, ""]
    values: Float[Array, "d d"]
    scores: Float[Array, "d d"]
    keys: Float[Array, "d d"]
    queries: Float[Array, "d d"]


class Sizes(NamedTuple):
    """The width m and the number m_1 of neurons, as arrays: no value compiles anything again."""

    width: Float[Array, ""]
    neurons: Float[Array, ""]


class Passed(NamedTuple):
    """What one pass over the sentences yields.

    Attributes:
        attention: p_il(k), the softmax over keys k for every query l.
        margins: y_i F_i.
    """

    attention: Float[Array, "n key query"]
    margins: Float[Array, " n"]


def attend(state: State, sizes: Sizes, samples: Samples) -> Passed:
    """Attention and margins of every sentence, from scores and responses alone."""
    tokens = samples.tokens
    logits = state.scores[tokens[:, :, None], tokens[:, None, :]] / jnp.sqrt(sizes.width)
    logits = logits - jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
    weights = jnp.exp(logits)
    attention = weights / jnp.sum(weights, axis=1, keepdims=True)
    output = jnp.einsum("nkl,nk->n", attention, state.response[tokens])
    return Passed(attention, samples.labels * output)


class Drive(NamedTuple):
    """c and M."""

    c: Float[Array, " d"]
    m: Float[Array, "d d"]


def drive(state: State, sizes: Sizes, samples: Samples) -> Drive:
    """What moves everything: c and M."""
    tokens: Int[Array, "n length"] = samples.tokens
    passed = attend(state, sizes, samples)
    pull = jax.nn.sigmoid(-passed.margins) * samples.labels / len(tokens)
    received = pull[:, None] * jnp.sum(passed.attention, axis=2)
    c = jnp.zeros_like(state.response).at[tokens].add(received)
    response = state.response[tokens]
    mean = jnp.einsum("nkl,nk->nl", passed.attention, response)
    bent = passed.attention * (response[:, :, None] - mean[:, None, :])
    bent = pull[:, None, None] * bent / jnp.sqrt(sizes.width)
    m = jnp.zeros_like(state.scores)
    return Drive(c, m.at[tokens[:, :, None], tokens[:, None, :]].add(bent))


def velocity(state: State, sizes: Sizes, samples: Samples) -> State:
    """The time derivative of the state."""
    c, m = drive(state, sizes, samples)
    g, s = state.response, state.scores
    outer = jnp.outer(g, c)
    keys, queries = m @ s.T, m.T @ s
    return State(
        response=sizes.neurons * (state.values @ c) + state.readout * c,
        readout=2 * sizes.neurons * (g @ c),
        values=outer + outer.T,
        scores=m @ state.queries + state.keys @ m,
        keys=keys + keys.T,
        queries=queries + queries.T,
    )


def squared_speed(state: State, sizes: Sizes, samples: Samples) -> Float[Array, ""]:
    """|grad L|^2 of the transformer: what its loss loses in a unit of time.

    |W'|^2 = m_1 |W_V c|^2, |W_V'|^2 = |u|^2 |c|^2, |W_K'|^2 = |W_Q M^T|^2, |W_Q'|^2 = |W_K M|^2.
    """
    c, m = drive(state, sizes, samples)
    mlp = sizes.neurons * (c @ state.values @ c) + state.readout * (c @ c)
    return mlp + jnp.sum((m @ state.queries) * m) + jnp.sum((state.keys @ m) * m)


def of_weights(w: Array, w_v: Array, w_k: Array, w_q: Array, signs: Array, words: Any) -> State:
    """The state that given weights are in, for the given words.

    Args:
        w: shape ``(m_1, m)``.
        w_v, w_k, w_q: shape ``(m, vocabulary)``.
        signs: the a_j, shape ``(m_1,)``.
        words: tokens, shape ``(d,)``.
    """
    u = signs.astype(w.dtype) @ w
    value, key, query = w_v[:, words], w_k[:, words], w_q[:, words]
    return State(u @ value, u @ u, value.T @ value, key.T @ query, key.T @ key, query.T @ query)
