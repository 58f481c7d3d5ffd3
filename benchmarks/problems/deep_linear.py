"""Deep linear networks that start aligned with their task, where every mode learns alone.

Saxe, McClelland & Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
neural networks", ICLR 2014, arXiv 1312.6120. Inputs are white and targets linear in them, so that

    L = mean |y - W_D ... W_1 x|^2 / 2 = |U S V^T - W_D ... W_1|_F^2 / 2.

With W_1 = R_1 A V^T, W_l = R_l A R_(l-1)^T and W_D = U A R_(D-1)^T, the R_l having orthonormal
columns and A being diagonal, all layers stay so, and each entry a of A follows
a' = a^(D-1) (s - a^D). The strength of its mode is u = a^D: u' = D u^(2 - 2/D) (s - u).
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike
from scipy.optimize import brentq

import gradflow as gf

from .case import Case

_INPUTS, _HIDDEN, _OUTPUTS, _SAMPLES = 12, 16, 10, 30
_MODES = min(_INPUTS, _OUTPUTS)


class Data(NamedTuple):
    """White inputs, and targets that are linear in them."""

    inputs: Float[Array, "n inputs"]
    targets: Float[Array, "n outputs"]


def loss(weights: tuple[Array, ...], data: Data) -> Float[Array, ""]:
    """mean |y - W_D ... W_1 x|^2 / 2."""
    outputs = reduce(lambda x, weight: x @ weight.T, weights, data.inputs)
    return jnp.mean(jnp.sum((outputs - data.targets) ** 2, axis=1)) / 2


class _Task(NamedTuple):
    """One draw: ``bases`` are V, R_1, ..., R_(D-1), U, each with `_MODES` orthonormal columns."""

    bases: tuple[np.ndarray, ...]
    strengths: np.ndarray  # s of each mode
    inputs: np.ndarray

    def weights(self, entries: np.ndarray) -> tuple[np.ndarray, ...]:
        """W_1 to W_D for the diagonal `entries` of A."""
        return tuple(
            (after * entries) @ before.T
            for before, after in zip(self.bases[:-1], self.bases[1:], strict=True)
        )


def _orthonormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(rows, columns)))[0]


def _draw(depth: int, seed: int) -> _Task:
    """Strengths are spread evenly in log from 1 to 20; seeds differ in the bases and inputs."""
    rng = np.random.default_rng(seed)
    sizes = (_INPUTS, *(_HIDDEN,) * (depth - 1), _OUTPUTS)
    return _Task(
        tuple(_orthonormal(rng, size, _MODES) for size in sizes),
        np.geomspace(20.0, 1.0, _MODES),
        np.sqrt(_SAMPLES) * _orthonormal(rng, _SAMPLES, _INPUTS),
    )


def two_layer_strengths(s: np.ndarray, u0: float, times: ArrayLike) -> np.ndarray:
    """u(t) = s e^(2st) / (e^(2st) - 1 + s/u0): the modes of two layers, the paper's u_f(t).

    Args:
        s: the strengths in the task, shape ``(modes,)``.
        u0: all strengths at t = 0.
        times: shape ``(n,)``.

    Returns:
        The strengths, shape ``(n, modes)``.
    """
    left = np.exp(-2 * np.multiply.outer(np.asarray(times, dtype=float), s))
    return s / (1 + (s / u0 - 1) * left)


def four_layer_strengths(s: np.ndarray, u0: float, times: ArrayLike) -> np.ndarray:
    """The modes of four layers, whose closed form gives the time of a strength.

    With w = sqrt(u), dt = dw / (2 w^2 (s - w^2)) and its partial fractions integrate to

        2 s t = 1/w_0 - 1/w + (z - z_0) / sqrt(s),    w = sqrt(s) tanh z.

    The right-hand side rises with z, faster than its last term, which brackets the root.

    Args:
        s: the strengths in the task, shape ``(modes,)``.
        u0: all strengths at t = 0.
        times: shape ``(n,)``.

    Returns:
        The strengths, shape ``(n, modes)``.
    """

    def one(strength: float, t: float) -> float:
        root = np.sqrt(strength)
        w0 = np.sqrt(u0)
        z0 = np.arctanh(w0 / root)

        def excess(rise: float) -> float:
            return 1 / w0 - 1 / (root * np.tanh(z0 + rise)) + rise / root - 2 * strength * t

        bound = 2 * strength * root * t
        rise = brentq(excess, 0.0, bound, xtol=1e-300, rtol=1e-14) if t > 0 else 0.0
        return strength * np.tanh(z0 + rise) ** 2

    return np.array([[one(strength, t) for strength in s] for t in np.asarray(times, dtype=float)])


# By the number of layers.
_STRENGTHS = {2: two_layer_strengths, 4: four_layer_strengths}


def _case(name: str, what: str, depth: int, a0: float, tag: str) -> Case:
    def make(seed: int) -> gf.Problem:
        task = _draw(depth, seed)
        first, last = task.bases[0], task.bases[-1]
        targets = task.inputs @ (first * task.strengths) @ last.T
        weights = task.weights(np.full(_MODES, a0))
        data = Data(*map(jax.device_put, (task.inputs, targets)))
        return gf.Problem(loss, jax.device_put(weights), data)

    def closed_form(seed: int, times: ArrayLike) -> np.ndarray:
        task = _draw(depth, seed)
        entries = _STRENGTHS[depth](task.strengths, a0**depth, times) ** (1 / depth)
        return np.stack(
            [np.concatenate([w.ravel() for w in task.weights(each)]) for each in entries]
        )

    tags = frozenset({tag, "quick"})
    return Case(name, what, make, 20.0, tags, closed_form=closed_form)


CASES = (
    _case(
        "linear2",
        "two linear layers, aligned: ten modes of strength 1 to 20 learn one after another",
        2,
        0.03,
        "mild",
    ),
    _case(
        "linear4",
        "four linear layers, aligned: longer plateaus, and a sharpness of 4 s^1.5",
        4,
        0.3,
        "stiff",
    ),
)
