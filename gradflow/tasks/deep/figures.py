"""What is drawn of deeper models: the scores of every layer, head by head; the rest as of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...plotting import Figure, Line, Panel
from ...trajectory import Trajectory
from ..cooccurrence.figures import OF_OUTPUTS


def figures(layers: int, heads: int) -> tuple[Figure, ...]:
    """A figure of the scores of every layer, and what is drawn of every model."""
    return (*(_scores(layer, heads) for layer in range(1, layers + 1)), *OF_OUTPUTS)


def _scores(layer: int, heads: int) -> Figure:
    lines = tuple(line for head in range(1, heads + 1) for line in _of_a_head(layer, head, heads))
    return Figure.both_time_scales(
        f"attention-layer-{layer}",
        Panel(lines, ylabel=f"change of scores, layer {layer}"),
        f"Attention score correlations in layer {layer}, head by head, less their initial values: "
        "the mean of the two between the target words, and of the two from target words as queries "
        "to the common word.",
    )


def _of_a_head(layer: int, head: int, heads: int) -> tuple[Line, Line]:
    name, colour = f"head {head}, " if heads > 1 else "", (head - 0.5) / heads
    targets, common = ((1, 2), (2, 1)), ((3, 1), (3, 2))
    return (
        Line(_mean_change(layer, head, targets), {}, f"{name}target key", colour, "solid"),
        Line(_mean_change(layer, head, common), {}, f"{name}common key", colour, "dashed"),
    )


def _mean_change(
    layer: int, head: int, pairs: Sequence[tuple[int, int]]
) -> Callable[[Trajectory], tuple[np.ndarray, np.ndarray]]:
    def mean_change(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
        scores = [
            trajectory.sel("attention_score", layer=layer, head=head, key=key, query=query)
            for key, query in pairs
        ]
        mean = np.mean(scores, axis=0)
        return trajectory.times("attention_score"), mean - mean[:1]

    return mean_change
