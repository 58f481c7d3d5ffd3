"""What is drawn: the plateaus of the loss, how far n-grams are, and what attention looks at."""

from __future__ import annotations

from ...plotting import Figure, Line, Panel
from ..blocks import balance_figure, place_name
from .data import NAMES


def figures(order: int, layers: int, heads: int, context: int) -> tuple[Figure, ...]:
    """The figures of a model of these sizes."""
    ngrams = NAMES[: order + 2]
    places = [(layer, head) for layer in range(1, layers + 1) for head in range(1, heads + 1)]
    return (
        Figure.both_time_scales(
            "loss",
            Panel(
                (
                    Line("loss", label="training", colour="black", dash="solid"),
                    Line("test_loss", label="test", colour="blue", dash="dashed"),
                    *(
                        Line("ngram_loss", {"ngram": name}, name, shade, "dotted")
                        for name, shade in _shades(ngrams)
                    ),
                ),
                ylabel="cross-entropy (nat)",
            ),
            "Cross-entropy on training and on fresh sequences. Dotted, what the best prediction "
            "from none of the tokens, from how often each occurs, from the last one and from the "
            "last two has on the training sequences: the entropies of their own counts.",
        ),
        Figure.both_time_scales(
            "ngrams",
            Panel(
                tuple(
                    Line("divergence", {"ngram": name}, name, shade)
                    for name, shade in _shades(ngrams)
                ),
                ylabel="divergence from n-grams (nat)",
                yscale="log",
            ),
            "Kullback-Leibler divergence of the model's predictions from those of the n-grams of "
            "the training sequences, mean over their positions.",
        ),
        Figure.both_time_scales(
            "attention",
            Panel(
                tuple(
                    Line(
                        "attention_weight",
                        {"layer": layer, "head": head, "lag": lag},
                        f"{place_name(layer, head, layers, heads)}lag {lag}",
                    )
                    for layer, head in places
                    for lag in range(context)
                ),
                ylabel="mean softmax weight",
            ),
            "Attention to the present token and to those before, mean over positions.",
        ),
        balance_figure(layers, heads),
    )


def _shades(names: tuple[str, ...]) -> list[tuple[str, float]]:
    """Each name with its place from light to dark."""
    return [(name, (i + 0.5) / len(names)) for i, name in enumerate(names)]
