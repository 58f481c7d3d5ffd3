"""Deep linear networks that start aligned with their task: `gradflow.tasks.deep_linear`.

Unlike there, bases, U and V among them, and inputs are drawn from one generator.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

import gradflow as gf
from gradflow.tasks.deep_linear import Data, aligned_weights, loss, mode_strengths, white_inputs
from gradflow.tasks.draws import orthonormal

from .case import Case

_INPUTS, _HIDDEN, _OUTPUTS, _SAMPLES = 12, 16, 10, 30
_MODES = min(_INPUTS, _OUTPUTS)


class _Task(NamedTuple):
    """One draw: ``bases`` are V, R_1, ..., R_(D-1), U, each with `_MODES` orthonormal columns."""

    bases: tuple[np.ndarray, ...]
    strengths: np.ndarray  # s of each mode
    inputs: np.ndarray


def _draw(depth: int, seed: int) -> _Task:
    """Strengths are spread evenly in log from 1 to 20; seeds differ in the bases and inputs."""
    rng = np.random.default_rng(seed)
    sizes = (_INPUTS, *(_HIDDEN,) * (depth - 1), _OUTPUTS)
    return _Task(
        tuple(orthonormal(rng, size, _MODES) for size in sizes),
        np.geomspace(20.0, 1.0, _MODES),
        white_inputs(rng, _SAMPLES, _INPUTS),
    )


def _case(name: str, what: str, depth: int, a0: float, tag: str) -> Case:
    def make(seed: int) -> gf.Problem:
        task = _draw(depth, seed)
        first, last = task.bases[0], task.bases[-1]
        targets = task.inputs @ (first * task.strengths) @ last.T
        weights = aligned_weights(task.bases, np.full(_MODES, a0))
        data = Data(*map(jax.device_put, (task.inputs, targets)))
        return gf.Problem(loss, jax.device_put(weights), data)

    def closed_form(seed: int, times: ArrayLike) -> np.ndarray:
        task = _draw(depth, seed)
        entries = mode_strengths(task.strengths, a0**depth, depth, times) ** (1 / depth)
        weights = (aligned_weights(task.bases, each) for each in entries)
        return np.stack([np.concatenate([w.ravel() for w in each]) for each in weights])

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
