"""What the transformer and its coupled system measure alike, without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._linalg import positive
from ...observables import Observable, Snapshot
from .data import SPECIAL, Samples

# Of words with each other, under W_K^T W_Q, W_V^T W_V, W_K^T W_K and W_Q^T W_Q.
MATRICES = ("scores", "values", "keys", "queries")


@dataclass(frozen=True)
class Rate:
    """d/dt of what an observable's function measures: its derivative along the run's slope."""

    function: Callable[[Snapshot], Array]

    def __call__(self, snapshot: Snapshot) -> Array:
        """The derivative at one moment."""

        def moved(arrays: Array) -> Array:
            return self.function(replace(snapshot, arrays=arrays))

        return jax.jvp(moved, (snapshot.arrays,), (snapshot.slope,))[1]


def rate(observable: Observable) -> Observable:
    """The observable of another's derivative along the run."""
    return replace(
        observable,
        name=f"{observable.name}_rate",
        function=Rate(observable.function),
        label=f"rate of change of {observable.label}",
    )


def special_weights(
    attention: Float[Array, "n key query"], tokens: Int[Array, "n length"]
) -> Float[Array, "key query"]:
    """The mean softmax weight between special words, over the sentences that hold both."""
    place = (tokens[:, None, :] == jnp.arange(SPECIAL, dtype=tokens.dtype)[:, None]).astype(
        attention.dtype
    )
    there = place.sum(axis=2)
    weights = jnp.einsum("nik,nkl,njl->ij", place, attention, place)
    return weights / jnp.einsum("ni,nj->ij", there, there)


def relative_change(change: Array, then: Array) -> Float[Array, ""]:
    """|change| / |then|, in the Frobenius norm."""
    return jnp.linalg.norm(change) / positive(jnp.linalg.norm(then))


def largest_random(change: Float[Array, "d d"], words: Int[Array, " d"]) -> Float[Array, ""]:
    """The largest absolute entry in a row or a column of a random word.

    Args:
        change: key by query.
        words: the token of each row and column; rows of other tokens must be zero.
    """
    random = words >= SPECIAL
    return jnp.max(jnp.where(random[:, None] | random, jnp.abs(change), 0.0))


def training_words(samples: Samples, vocabulary: int) -> Int[Array, " d"]:
    """The words that occur, each once, in an array of fixed size filled up with -1."""
    size = min(vocabulary, samples.tokens.size)
    return jnp.unique(samples.tokens, size=size, fill_value=-1)
