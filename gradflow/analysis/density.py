"""Spectral densities from the nodes and weights of Gauss rules."""

from __future__ import annotations

import numpy as np


def smoothed_density(
    nodes: np.ndarray, weights: np.ndarray, at: np.ndarray, width: float
) -> np.ndarray:
    """The density of the eigenvalues as a curve: every node a normal density of its weight.

    What ``spectral_density_node[row]`` and ``spectral_density_weight[row]`` of a trajectory
    hold; `width` says how much of their detail to believe.

    Args:
        nodes: shape ``(probes, n)``; NaN where there is none.
        weights: of the same shape, those of each probe summing to one.
        at: where to evaluate the density, shape ``(points,)``.
        width: standard deviation of the normal densities.

    Returns:
        The mean density of the probes, shape ``(points,)``; it integrates to one.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> nodes, weights = np.array([[1.0, 3.0]]), np.array([[0.5, 0.5]])
    >>> at = np.linspace(0.0, 4.0, 401)
    >>> density = gf.analysis.smoothed_density(nodes, weights, at, width=0.1)
    >>> round(float(np.trapezoid(density, at)), 3), float(at[density.argmax()].round(2))
    (1.0, 1.0)
    """
    distances = (at[:, None, None] - nodes) / width
    peaks = weights * np.exp(-(distances**2) / 2) / (width * np.sqrt(2 * np.pi))
    return np.nansum(peaks, axis=2).mean(axis=1)
