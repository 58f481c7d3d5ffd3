"""Starts drawn from the statistics of the initialisation, at widths that no memory holds.

For Gaussian weights the state at t = 0 has a law that can be drawn from without them. Let W_V have
independent entries N(0, s0^2), likewise W_K and W_Q, and W N(0, s1^2), for d words and width m:

- u = W^T a is N(0, s1^2 m_1) in each of m entries whatever the signs a_j, so A = |u|^2 is
  s1^2 m_1 times a chi-square of m degrees of freedom, and independent of u's direction.
- Along that direction the entries of W_V are a vector h of N(0, s0^2), so G = sqrt(A) h; across
  it they are Gaussian in m - 1 dimensions, so B = h h^T + a Wishart matrix of m - 1 degrees.
- The Gram matrix of W_K and W_Q side by side is a Wishart matrix of m degrees in 2 d dimensions,
  with K, S and Q as its blocks.

A Wishart matrix of n degrees is R^T R with R upper triangular, the roots of chi-squares on its
diagonal and N(0, 1) above (Bartlett 1933); it takes d^2 numbers whatever n. Where n is less than
the dimension it is R^T R of the first n rows.
"""

from __future__ import annotations

import jax
import numpy as np

from .system import State


def wishart(rng: np.random.Generator, degrees: int, dimension: int) -> np.ndarray:
    """The Gram matrix of `dimension` vectors of `degrees` independent N(0, 1) entries."""
    rows = min(degrees, dimension)
    factor = np.triu(rng.normal(size=(rows, dimension)), 1)
    chi_square = rng.chisquare(degrees - np.arange(rows))
    np.fill_diagonal(factor, np.sqrt(chi_square))
    return factor.T @ factor


def draw(
    rng: np.random.Generator, words: int, width: int, neurons: int, s0: float, s1: float
) -> State:
    """The state at t = 0 for Gaussian weights.

    Args:
        rng: source of all that is random.
        words: how many, d.
        width: m.
        neurons: m_1.
        s0: standard deviation of W_V, W_K and W_Q.
        s1: standard deviation of W.
    """
    readout = s1**2 * neurons * rng.chisquare(width)
    along = s0 * rng.normal(size=words)
    across = s0**2 * wishart(rng, width - 1, words) if width > 1 else np.zeros((words, words))
    gram = s0**2 * wishart(rng, width, 2 * words)
    response, values = np.sqrt(readout) * along, across + np.outer(along, along)
    scores, keys, queries = gram[:words, words:], gram[:words, :words], gram[words:, words:]
    return State(*map(jax.device_put, (response, readout, values, scores, keys, queries)))
