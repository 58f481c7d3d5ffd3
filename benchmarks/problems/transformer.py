"""The word co-occurrence transformer: its own logistic loss, and a squared one.

Model, data and start are those of `gradflow.tasks.Cooccurrence`. The task's observables are left
out, so that a run pays for its solver alone.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

import gradflow as gf
from gradflow.tasks.cooccurrence import Data, Transformer, sample_loss

from .case import Case


def half_square_sample_loss(model: Transformer, data: Data) -> Float[Array, " n"]:
    """(F(X) - y)^2 / 2 of every training sentence."""
    return (model(data.train.tokens) - data.train.labels) ** 2 / 2


def _make(
    loss: Callable[[Transformer, Data], Float[Array, " n"]],
) -> Callable[[int], gf.Problem]:
    def make(seed: int) -> gf.Problem:
        task = gf.tasks.Cooccurrence().build(jax.random.key(seed))
        return gf.Problem(params=task.model(task.params), data=task.data, sample_loss=loss)

    return make


CASES = (
    Case(
        "transformer",
        "co-occurrence transformer, logistic loss: sharpness falls like 1/t",
        _make(sample_loss),
        300.0,
        frozenset({"smooth"}),
    ),
    Case(
        "transm",
        "co-occurrence transformer, squared loss: a large sharpness that stays",
        _make(half_square_sample_loss),
        30.0,
        frozenset({"stiff"}),
    ),
)
