"""What is known of the models, checked along a run."""

from __future__ import annotations

import numpy as np

from ...analysis import Series
from ..blocks import balance_row, balance_rows
from ..evidence import Evidence, Row, UnansweredError
from .observables import Model


def rows(model: Model) -> tuple[Row, ...]:
    """What is claimed of one of the models."""
    match model:
        case "logistic":
            return (_CONVEX, _ACCURATE)
        case "convolution":
            source, variable = "Du, Hu & Lee 2018", "balance_channels"
            return (balance_row("channels stay balanced", source, variable), _ACCURATE)
        case "attention":
            return (*balance_rows(), _ACCURATE)
        case "mlp":
            return (_ACCURATE,)


def _falls(evidence: Evidence) -> Series:
    """By how much the logarithm of the gradient norm falls from save time to save time."""
    norm = evidence.series("grad_norm")
    if len(norm.times) < 3:
        raise UnansweredError("too few save times")
    relative = norm.errors / norm.values
    return Series(
        norm.times[1:], -np.diff(np.log(norm.values)), relative[1:] + relative[:-1], norm.certified
    )


# Of a convex loss: d|g|^2/dt = -2 g^T H g.
_CONVEX = Row(
    "|grad L| falls", "convexity", "least fall of its log between saves", _falls, "run", low=0.0,
    report="smallest",
)  # fmt: skip
_ACCURATE = Row(
    "test accuracy > 90 % at the end",
    "Alpaydin & Kaynak 1998",
    "test accuracy",
    lambda e: e.series("test_accuracy"),
    "end",
    low=0.9,
)
