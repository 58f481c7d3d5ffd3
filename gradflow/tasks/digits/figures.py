"""What is drawn."""

from __future__ import annotations

from ...plotting import Figure, Line, Panel
from ..blocks import balance_figure
from .observables import Model


def figures(model: Model, heads: int) -> tuple[Figure, ...]:
    """The figures of one of the models."""
    match model:
        case "convolution":
            return (*_OF_OUTPUTS, _CHANNELS)
        case "attention":
            return (*_OF_OUTPUTS, balance_figure(1, heads))
        case _:
            return _OF_OUTPUTS


_OF_OUTPUTS = (
    Figure.both_time_scales(
        "loss",
        Panel(
            (Line("loss", label="training"), Line("test_loss", label="test")),
            ylabel="cross-entropy",
            yscale="log",
        ),
        "Cross-entropy on the training images and on all others.",
    ),
    Figure.both_time_scales(
        "accuracy",
        Panel(
            (Line("accuracy", label="training"), Line("test_accuracy", label="test")),
            ylabel="accuracy",
        ),
        "Share of images recognised.",
    ),
)
_CHANNELS = Figure(
    "balance",
    (
        Panel(
            tuple(
                Line("balance_channels", {"layer": layer}, f"convolution {layer}")
                for layer in (1, 2)
            ),
            ylabel="relative drift",
            xscale="log",
            yscale="log",
        ),
    ),
    "How far the squared norm of the weights into a channel less that of those out of it drifts.",
)
