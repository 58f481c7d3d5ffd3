"""Figure 1 (a) and (b) of the paper, then what its Section 4 argues with."""

from __future__ import annotations

import numpy as np

from ...plotting import Figure, Line, Panel, Reference
from ...trajectory import Trajectory
from .data import CLASSES, WORDS

_PAIRS = ((1, 2), (2, 1), (3, 1), (3, 2), (1, 1), (2, 2))


def _score(key: int, query: int) -> Line:
    return Line("attention_score", {"key": key, "query": query}, _pair(key, query))


def _score_change(key: int, query: int) -> Line:
    def change(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
        scores = trajectory.sel("attention_score", key=key, query=query)
        return trajectory.times("attention_score"), scores - scores[:1]

    return Line(change, label=_pair(key, query))


def _pair(key: int, query: int) -> str:
    return rf"$\mu_{key}^\top W_K^\top W_Q\, \mu_{query}$"


def _balance_ratio(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    second = trajectory.sel("class_gradient", **{"class": "first"})
    third = trajectory.sel("class_gradient", **{"class": "second"})
    with np.errstate(divide="ignore", invalid="ignore"):  # g underflows at very large margins
        return trajectory.times("class_gradient"), second / third


ATTENTION = Figure.both_time_scales(
    "attention",
    Panel(tuple(_score(*pair) for pair in _PAIRS), ylabel="attention score correlation"),
    "Attention score correlations among the target words 1, 2 and the common word 3.",
)
# Over seeds, for what each starts from would hide what it does.
_ATTENTION_CHANGE = Figure.both_time_scales(
    "attention",
    Panel(
        tuple(_score_change(*pair) for pair in _PAIRS),
        ylabel="change of attention scores",
        references=(Reference(0.0),),
    ),
    "Attention score correlations among the target words 1, 2 and the common word 3, less their "
    "initial values.",
)
# Of every model of the sentences with a linear MLP on top.
OF_OUTPUTS = (
    Figure.both_time_scales(
        "loss",
        Panel(
            (
                Line("loss", label="mean", colour="black"),
                *(
                    Line("class_loss", {"class": kind}, label)
                    for kind, label in zip(
                        CLASSES,
                        ("both targets", "first only", "second only", "neither"),
                        strict=True,
                    )
                ),
            ),
            ylabel="training loss",
            yscale="log",
        ),
        "Training loss: the mean over all samples, and over each of the four kinds.",
    ),
    Figure.both_time_scales(
        "response",
        Panel(
            tuple(Line("response", {"word": i}, rf"$G(\mu_{i})$") for i in WORDS),
            ylabel="response of the MLP",
            references=(Reference(0.0),),
        ),
        "The MLP's response to the target words 1, 2 and to the common word 3.",
    ),
    Figure.both_time_scales(
        "balance",
        Panel(
            (Line(_balance_ratio, label=r"$S_2 / S_3$"),),
            ylabel=r"gradient balance $S_2 / S_3$",
            references=(Reference(0.5, 2.0, r"$[1/2,\, 2]$"),),
        ),
        "Automatic balancing of gradients: the ratio of the sums of g over the samples with the "
        "first and with the second target alone, and the interval of Lemma 4.4.",
    ),
)
FIGURES = (ATTENTION, *OF_OUTPUTS)
ENSEMBLE_FIGURES = (_ATTENTION_CHANGE, *OF_OUTPUTS)
