"""What still makes sense along a run, layer by layer and head by head, and what is conserved.

Write V = W_V^h of a head, with m/H rows, and R for the m/H columns of whatever multiplies its
output: of W in the last layer, and of [W_V; W_K; W_Q] of the next layer in every other. The model
depends on V and R through R V alone, so that (A V, R A^-1) is the same model for every invertible
A; along A = exp(s B) the loss does not change, <R', R B> = <V', B V> for every B, and

    R^T R - V V^T  and, as scores depend on W_K^hT W_Q^h alone,  W_K^h W_K^hT - W_Q^h W_Q^hT

are constant along the flow. A mixes no heads: blocks of these matrices between two heads are not
conserved. Finite steps drift from all of them at first order in the step.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...invariants import SAVE, gram_changes, relative_drift
from ...observables import Observable, Snapshot
from ..cooccurrence.data import SPECIAL, WORDS
from ..cooccurrence.measures import rate, special_weights
from ..cooccurrence.observables import MIN_MARGIN, OF_OUTPUTS, READOUT, RESPONSE
from .model import DeepTransformer

EVENTS = (MIN_MARGIN,)


def observables(layers: int, heads: int) -> tuple[Observable, ...]:
    """Everything that is recorded, with the names that a single layer of one head has.

    What there is of every head has two axes more, ``layer`` and ``head``, each from 1.
    """
    each = (("layer", tuple(range(1, layers + 1))), ("head", tuple(range(1, heads + 1))))
    pairs = (*each, ("key", WORDS), ("query", WORDS))
    score = Observable("attention_score", _attention_score, pairs, "attention score correlation")
    return (
        *OF_OUTPUTS,
        RESPONSE,
        READOUT,
        rate(READOUT),
        score,
        rate(score),
        Observable("attention_weight", _attention_weight, pairs, "mean softmax weight", save=SAVE),
        Observable(
            "balance_values",
            _balance_values,
            each,
            r"drift of $R^\top R - W_V W_V^\top$",
            save=SAVE,
        ),
        Observable(
            "balance_attention",
            _balance_attention,
            each,
            r"drift of $W_K W_K^\top - W_Q W_Q^\top$",
            save=SAVE,
        ),
    )


def _attention_score(s: Snapshot) -> Array:
    return s.params.scores(jnp.arange(SPECIAL))


def _attention_weight(s: Snapshot) -> Array:
    tokens = s.data.train.tokens
    of_heads = jax.vmap(special_weights, (1, None))
    return jax.vmap(of_heads, (0, None))(s.params.attention(tokens), tokens)


def _balance_values(s: Snapshot) -> Array:
    now, then = s.params, s.initial
    drifts = []
    for i, (layer, start) in enumerate(zip(now.layers, then.layers, strict=True)):
        readers = gram_changes(_reader(now, i).T, _reader(then, i).T, layer.heads)
        values = gram_changes(layer.w_v, start.w_v, layer.heads)
        drifts.append(jax.vmap(relative_drift)(readers, values))
    return jnp.stack(drifts)


def _balance_attention(s: Snapshot) -> Array:
    drifts = []
    for layer, start in zip(s.params.layers, s.initial.layers, strict=True):
        keys = gram_changes(layer.w_k, start.w_k, layer.heads)
        queries = gram_changes(layer.w_q, start.w_q, layer.heads)
        drifts.append(jax.vmap(relative_drift)(keys, queries))
    return jnp.stack(drifts)


def _reader(model: DeepTransformer, i: int) -> Float[Array, "rows width"]:
    """Whatever multiplies the output of layer i."""
    if i + 1 == len(model.layers):
        return model.w
    above = model.layers[i + 1]
    return jnp.concatenate([above.w_v, above.w_k, above.w_q])
