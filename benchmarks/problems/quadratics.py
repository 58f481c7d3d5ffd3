"""Quadratics with chosen spectra: L = (theta - minimum)^T H (theta - minimum) / 2.

H = R diag(eigenvalues) R^T with a random rotation R, and the flow is
theta(t) = minimum + R exp(-eigenvalues t) R^T (theta_0 - minimum).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

import gradflow as gf

from .case import Case, flat

Spectrum = Callable[[np.random.Generator], np.ndarray]


class Data(NamedTuple):
    """A quadratic in its eigenbasis, whose small eigenvalues survive float32 so."""

    rotation: Float[Array, "size size"]
    eigenvalues: Float[Array, " size"]
    minimum: Float[Array, " size"]


def loss(params: dict[str, Array], data: Data) -> Float[Array, ""]:
    """Half the sum of eigenvalue times squared coordinate along its eigenvector."""
    coordinates = (flat(params) - data.minimum) @ data.rotation
    return jnp.vdot(data.eigenvalues, coordinates**2) / 2


def _log_uniform(low: float, high: float, size: int) -> Spectrum:
    """`low` and `high` themselves, and between them eigenvalues drawn evenly in log."""
    return lambda rng: np.concatenate(
        [[low], np.exp(rng.uniform(np.log(low), np.log(high), size - 2)), [high]]
    )


def _clustered(rng: np.random.Generator) -> np.ndarray:
    """20 of 100 eigenvalues within 5 % of the top, which a power iteration cannot tell apart."""
    return np.concatenate([_log_uniform(0.1, 100.0, 80)(rng), rng.uniform(950.0, 1000.0, 20)])


def _valley(rng: np.random.Generator) -> np.ndarray:
    """One eigenvalue of 0.01, all others above 10."""
    return np.concatenate([[0.01], _log_uniform(10.0, 1000.0, 99)(rng)])


class _Draw(NamedTuple):
    """One draw, in float64 on the host."""

    start: np.ndarray
    rotation: np.ndarray
    eigenvalues: np.ndarray
    minimum: np.ndarray


def _draw(spectrum: Spectrum, seed: int) -> _Draw:
    rng = np.random.default_rng(seed)
    eigenvalues = spectrum(rng)
    size = len(eigenvalues)
    rotation = np.linalg.qr(rng.normal(size=(size, size)))[0]
    start, minimum = rng.normal(size=(2, size))
    return _Draw(start, rotation, eigenvalues, minimum)


def _case(name: str, what: str, spectrum: Spectrum, t1: float, tag: str) -> Case:
    def make(seed: int) -> gf.Problem:
        start, *rest = _draw(spectrum, seed)
        first = len(start) // 4
        params = {"a": start[:first], "b": start[first:].reshape(3, -1)}
        return gf.Problem(loss, jax.device_put(params), Data(*map(jax.device_put, rest)))

    def closed_form(seed: int, times: ArrayLike) -> np.ndarray:
        start, rotation, eigenvalues, minimum = _draw(spectrum, seed)
        decay = np.exp(-np.multiply.outer(np.asarray(times, dtype=float), eigenvalues))
        return minimum + (decay * ((start - minimum) @ rotation)) @ rotation.T

    return Case(name, what, make, t1, frozenset({tag, "quick"}), closed_form=closed_form)


def of_condition(condition: float) -> Case:
    """100 eigenvalues log-uniform from 0.1 to `condition` times that, until the slowest has decayed
    by a factor of e.
    """
    what = f"quadratic, 100 eigenvalues log-uniform over a condition number of {condition:g}"
    spectrum = _log_uniform(0.1, 0.1 * condition, 100)
    return _case(f"quadratic of condition {condition:g}", what, spectrum, 10.0, "stiff")


CASES = (
    _case(
        "quadratic-mild",
        "quadratic, 100 eigenvalues log-uniform over a condition number of 100",
        _log_uniform(0.1, 10.0, 100),
        10.0,
        "smooth",
    ),
    _case(
        "quadratic",
        "quadratic, 100 eigenvalues log-uniform over a condition number of 1e5",
        _log_uniform(0.01, 1000.0, 100),
        100.0,
        "stiff",
    ),
    _case(
        "quadratic-clustered",
        "quadratic, 20 of 100 eigenvalues within 5 % of the top",
        _clustered,
        20.0,
        "stiff",
    ),
    _case(
        "quadratic-valley",
        "quadratic, one eigenvalue 0.01 of 100, the others 10 to 1000: a flat valley",
        _valley,
        100.0,
        "stiff",
    ),
)
