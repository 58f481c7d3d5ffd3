"""Which of the paper's claims are asked of deeper models, though it proves none of them there.

What speaks of outputs, of the responses G and of |W^T a|^2 alone is asked as it stands, except
where the paper's constants or bounds belong to one layer; and of every head of every layer,
whether scores move as Theorem 3.2 has it.
"""

from __future__ import annotations

from dataclasses import replace

from ..checking import Special
from ..cooccurrence.claims import ROWS
from ..evidence import Row

_AS_THEY_STAND = (
    "T1 is reached",
    "G1 > 0 at T1",
    "G2 > 0 at T1",
    "G3 < 0 at T1",
    "loss at T1 is Theta(1)",
    "G1 > 0",
    "G2 > 0",
    "G1 + G2 + G3 > 0",
    "G1 + G3 < 0",
    "G2 + G3 < 0",
    "G1 + G3 < 0 at the end",
    "G2 + G3 < 0 at the end",
    "|S2 - S3| / min(S2, S3) is small",
    "1/2 <= S2/S3 <= 2",
    "S4 <= min(S2, S3)",
    "max(S2, S3) <= S1",
    "S1 <= S2 + S3 + S4",
    "|W^T a|^2 rises",
    "|W^T a|^2 rises from the start",
    "log-log slope of the loss is -1",
    "training loss gets small",
    "test loss gets small",
)
_SCORES = {
    "score (key 1, query 2) rises": {"key": 1, "query": 2},
    "score (key 2, query 1) rises": {"key": 2, "query": 1},
    "score (key 3, query 1) falls": {"key": 3, "query": 1},
    "score (key 3, query 2) falls": {"key": 3, "query": 2},
}
_BY_NAME = {row.name: row for row in ROWS if isinstance(row, Row | Special)}


def rows(layers: int, heads: int) -> tuple[Row | Special, ...]:
    """The claims, a row each."""
    return (
        *(_BY_NAME[name] for name in _AS_THEY_STAND),
        *(
            _of_a_head(name, pair, layer, head)
            for layer in range(1, layers + 1)
            for head in range(1, heads + 1)
            for name, pair in _SCORES.items()
        ),
    )


def _of_a_head(name: str, pair: dict[str, int], layer: int, head: int) -> Row:
    row, labels = _BY_NAME[name], {**pair, "layer": layer, "head": head}
    assert isinstance(row, Row)
    return replace(
        row,
        name=f"{name}, layer {layer}, head {head}",
        series=lambda e: e.series("attention_score_rate", **labels),
        net=lambda e: e.series("attention_score", **labels),
    )
