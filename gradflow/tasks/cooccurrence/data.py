"""The sentences of Definition 2.1."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

FIRST, SECOND, COMMON = 0, 1, 2  # tokens of the words mu_1, mu_2 (targets) and mu_3
SPECIAL = 3  # tokens from here on are random words
WORDS = (1, 2, 3)  # what observables call the special words
CLASSES = ("both", "first", "second", "neither")  # I_1 to I_4


class Samples(NamedTuple):
    """Sentences with what they are to be recognised as.

    Attributes:
        tokens: the words of each sentence; the embeddings are the standard basis, so that a
            token is an index.
        labels: +1 where both targets occur, else -1.
        kinds: index into `CLASSES`.
    """

    tokens: Int[Array, "n length"]
    labels: Float[Array, " n"]
    kinds: Int[Array, " n"]


class Data(NamedTuple):
    """What is trained on, and fresh sentences of the same distribution."""

    train: Samples
    test: Samples


def class_sizes(n: int) -> tuple[int, int, int, int]:
    """How many of n sentences are of each kind (Assumption 2.3)."""
    return n // 2, n // 6, n // 6, n // 6


def random_words(n: int, length: int) -> int:
    """How many positions of n sentences hold a random word."""
    both, first, second, _ = class_sizes(n)
    return n * (length - 1) - 2 * both - first - second


def draw(
    rng: np.random.Generator,
    n: int,
    length: int,
    vocabulary: int,
    *,
    unique: bool = False,
    repeat: float = 0.0,
) -> Samples:
    """n sentences with exact class sizes.

    Args:
        rng: source of all that is random.
        n: a multiple of 6.
        length: words L in a sentence.
        vocabulary: words d in all.
        unique: whether no random word may occur twice in all sentences together.
        repeat: the probability with which a random word is the random word before it in its
            sentence, and otherwise a fresh one.
    """
    kinds = np.repeat(np.arange(4, dtype=np.int32), class_sizes(n))
    tokens = np.full((n, length), -1, dtype=np.int32)
    tokens[:, 0] = COMMON
    tokens[np.isin(kinds, (0, 1)), 1] = FIRST
    tokens[np.isin(kinds, (0, 2)), 2] = SECOND
    tokens = rng.permuted(tokens, axis=1)
    empty = tokens < 0
    words = rng.choice(np.arange(SPECIAL, vocabulary), empty.sum(), replace=not unique)
    # Sentence after sentence, as a mask selects them: each is, or repeats, the last fresh one.
    again = rng.random(len(words)) < repeat
    again &= np.diff(np.nonzero(empty)[0], prepend=-1) == 0  # not across sentences
    tokens[empty] = words[np.maximum.accumulate(np.where(again, 0, np.arange(len(words))))]
    labels = np.where(kinds == 0, 1.0, -1.0)
    return Samples(*map(jax.device_put, (tokens, labels, kinds)))
