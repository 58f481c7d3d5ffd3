"""Sequences of a Markov chain, and what their own counts say of the next token."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

NAMES = ("uniform", "unigram", "bigram", "trigram")  # by how many tokens they look at, plus one


class Data(NamedTuple):
    """What is trained on, fresh sequences of the same chain, and the counts of the former.

    Attributes:
        train: tokens of every sequence.
        test: tokens of fresh sequences.
        ngrams: of each of `NAMES` up to the chain's order, the distribution of the next token at
            every position of the training sequences but the last.
        entropies: the training loss of each of these, in nats.
        bound: the least training loss of any model that looks at as many tokens as the trained
            one, in nats.
    """

    train: Int[Array, "n length"]
    test: Int[Array, "m length"]
    ngrams: Float[Array, "ngram n length-1 vocabulary"]
    entropies: Float[Array, " ngram"]
    bound: Float[Array, ""]


def transitions(
    rng: np.random.Generator, vocabulary: int, order: int, concentration: float
) -> np.ndarray:
    """The distribution of the next token for every context, shape ``(vocabulary,) * (order + 1)``.

    Each is drawn from a symmetric Dirichlet distribution.

    Args:
        rng: source of all that is random.
        vocabulary: tokens in all.
        order: tokens that the next one depends on.
        concentration: of the Dirichlet distribution: small for a chain that is nearly certain,
            large for one whose tokens are nearly independent.
    """
    return rng.dirichlet(np.full(vocabulary, concentration), (vocabulary,) * order)


def draw(
    rng: np.random.Generator, chain: np.ndarray, sequences: int, length: int, burn_in: int = 100
) -> np.ndarray:
    """Sequences of the chain, each from a start of its own, which `burn_in` tokens forget.

    Returns:
        Tokens, int32 of shape ``(sequences, length)``.
    """
    order, vocabulary = chain.ndim - 1, chain.shape[-1]
    tokens = np.empty((sequences, burn_in + length), np.int32)
    tokens[:, :order] = rng.integers(vocabulary, size=(sequences, order))
    cumulative = np.cumsum(chain, axis=-1)[..., :-1]  # the last is 1 to rounding
    for i in range(order, burn_in + length):
        given = cumulative[tuple(tokens[:, i - order : i].T)]
        tokens[:, i] = np.sum(rng.random(sequences)[:, None] > given, axis=1)
    return tokens[:, burn_in:]


def empirical(
    tokens: Int[np.ndarray, "n length"], vocabulary: int, seen: int
) -> Float[np.ndarray, "n length-1 vocabulary"]:
    """The frequencies of the next token among all places that the same tokens come before.

    Of all predictions that depend on these tokens alone they have the least cross-entropy: it is
    the conditional entropy of the sequences' own counts.

    Args:
        tokens: the sequences.
        vocabulary: tokens in all.
        seen: how many tokens are looked at, the present one included; fewer where the sequence
            has begun later.

    Returns:
        The distribution of the next token at every position but the last.

    >>> from gradflow.tasks.next_token import empirical
    >>> import numpy as np
    >>> tokens = np.array([[0, 1, 0, 1, 1]])
    >>> empirical(tokens, 2, seen=1)[0].round(3).tolist()  # 0, 1 before 1; 1 before 0 and 1
    [[0.0, 1.0], [0.5, 0.5], [0.0, 1.0], [0.5, 0.5]]
    """
    n, length = tokens.shape
    context = np.zeros((n, length - 1), np.int64)
    for lag in reversed(range(seen)):
        # Digits from 1, for a place that the sequence does not reach back to is another context.
        back = np.pad(tokens[:, : length - 1] + 1, ((0, 0), (lag, 0)))[:, : length - 1]
        _, context = np.unique(context * (vocabulary + 1) + back, return_inverse=True)
        context = context.reshape(n, length - 1)
    counts = np.zeros((context.max() + 1, vocabulary))
    np.add.at(counts, (context, tokens[:, 1:]), 1.0)
    return (counts / counts.sum(axis=1, keepdims=True))[context]


def cross_entropy(
    predictions: Float[np.ndarray, "n length-1 vocabulary"], tokens: Int[np.ndarray, "n length"]
) -> float:
    """The mean of -log of what was predicted of the token that came, in nats."""
    return float(-np.mean(np.log(np.take_along_axis(predictions, tokens[:, 1:, None], axis=2))))


def collected(train: np.ndarray, test: np.ndarray, vocabulary: int, order: int, seen: int) -> Data:
    """The sequences with their statistics.

    Args:
        train, test: tokens.
        vocabulary: tokens in all.
        order: up to how many tokens n-grams look at, plus one.
        seen: how many tokens the trained model looks at.
    """
    uniform = np.full((*train[:, 1:].shape, vocabulary), 1 / vocabulary)
    ngrams = [uniform, *(empirical(train, vocabulary, k) for k in range(order + 1))]
    bound = cross_entropy(empirical(train, vocabulary, seen), train)
    entropies = [cross_entropy(each, train) for each in ngrams]
    arrays = train, test, np.stack(ngrams), np.array(entropies), np.asarray(bound)
    return Data(*map(jax.device_put, arrays))
