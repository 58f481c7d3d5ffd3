"""The claims of the paper, a row each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ...analysis import Series, derived, log_slope, slope
from ..checking import Special
from ..claims import Claim
from ..evidence import Evidence, Row

TRAINED = ((1, 2), (2, 1), (3, 1), (3, 2))  # key and query of the scores that Theorem 3.3 names


def _of(name: str, **labels: object) -> Callable[[Evidence], Series]:
    """A recorded variable."""
    return lambda e: e.series(name, **labels)


def _summed(*words: int) -> Callable[[Evidence], Series]:
    """The sum of the responses to some of the special words."""
    return lambda e: derived(
        lambda *g: np.sum(g, axis=0), *(e.series("response", word=word) for word in words)
    )


def _rates(function: Callable[..., np.ndarray]) -> Callable[[Evidence], Series]:
    """A function of G1', G2', G3'."""
    return lambda e: derived(function, *(e.series("response_rate", word=i) for i in (1, 2, 3)))


def _sums(function: Callable[..., np.ndarray]) -> Callable[[Evidence], Series]:
    """A function of S1, S2, S3, S4, the sums of g over the classes."""
    kinds = ("both", "first", "second", "neither")
    return lambda e: derived(
        function, *(e.series("class_gradient", **{"class": kind}) for kind in kinds)
    )


def _attraction(s1: np.ndarray, s2: np.ndarray, s3: np.ndarray, s4: np.ndarray) -> np.ndarray:
    """R of Lemma 4.5."""
    return (s2 + s3 + s4 - s1) / (s1 - s2)


def _sides(positive: bool) -> tuple[float, float]:
    """The bounds of what must be positive, or else negative."""
    return (0.0, np.inf) if positive else (-np.inf, 0.0)


def _moves(source: str, label: str, up: bool, name: str, **labels: object) -> Row:
    """A row that claims a variable to rise, or to fall, in phase 2."""
    low, high = _sides(up)
    return Row(
        f"{label} {'rises' if up else 'falls'}",
        source,
        "net change",
        _of(f"{name}_rate", **labels),
        low=low,
        high=high,
        net=_of(name, **labels),
    )


def _first_phase() -> Iterator[Callable[[Evidence], Claim]]:
    yield Special("T1 is reached", "Thm 3.1", "T1", _t1)
    yield Special("T1 = C / (s1^2 m m1)", "Thm 3.1", "C", _constant)
    yield Special("T_half <= T1", "Lemma 4.3", "T_half", _t_half)
    for word, positive in ((1, True), (2, True), (3, False)):
        name, response = f"G{word} {'>' if positive else '<'} 0 at T1", _of("response", word=word)
        yield Row(name, "Thm 3.1", f"G{word}", response, "T1", *_sides(positive))
    yield Row("loss at T1 is Theta(1)", "Thm 3.1", "loss", _of("loss"), "T1")
    for matrix, what in (
        ("scores", "W_K^T W_Q"),
        ("values", "W_V^T W_V"),
        ("keys", "W_K^T W_K"),
        ("queries", "W_Q^T W_Q"),
    ):
        change = _of("correlation_change", matrix=matrix)
        yield Row(f"{what} near its start at T1", "Thm 3.1", "relative change", change, "T1")
    yield Row(
        "<w_i, w_j> near its start at T1",
        "Thm 3.1",
        "relative change",
        _of("neuron_change"),
        "T1",
    )


def _order_of_rates() -> Iterator[Row]:
    lower = _rates(lambda a, b, c: (-c - np.maximum(a, b)) / np.abs(np.maximum(a, b)))
    upper = _rates(lambda a, b, c: (a + b + c) / np.abs(a + b))
    for name, margin in (("max(G1', G2') < -G3'", lower), ("-G3' < G1' + G2'", upper)):
        yield Row(name, "Lemma 4.3", "C at T1", margin, "T_half to T1", low=0.0)
        yield Row(f"{name} after T1", "Lemma 4.5", "smallest C", margin, low=0.0, report="smallest")


def _second_phase() -> Iterator[Row]:
    for key, query, up in ((1, 2, True), (2, 1, True), (3, 1, False), (3, 2, False)):
        label = f"score (key {key}, query {query})"
        yield _moves("Thm 3.2", label, up, "attention_score", key=key, query=query)
    for word, other, up in ((1, 2, True), (1, 3, False), (2, 3, False)):
        label = f"mu{word}^T W_V^T W_V mu{other}"
        yield _moves("Thm 3.2", label, up, "value_correlation", word=word, other=other)
    yield Row("G1 > 0", "Thm 3.2", "at the end", _summed(1), low=0.0)
    yield Row("G2 > 0", "Thm 3.2", "at the end", _summed(2), low=0.0)
    yield Row("G1 + G2 + G3 > 0", "Thm 3.2", "at the end", _summed(1, 2, 3), low=0.0)
    for word in (1, 2):
        name, total = f"G{word} + G3 < 0", _summed(word, 3)
        yield Row(name, "Thm 3.2", "at the end", total, high=0.0)
        # Of many seeds more hold there than all the way from T1 on.
        yield Row(f"{name} at the end", "Thm 3.2", f"G{word} + G3", total, "end", high=0.0)
    for key, query, up in ((1, 2, True), (2, 1, True), (3, 1, False), (3, 2, False)):
        label = f"softmax weight (key {key}, query {query})"
        yield _moves("Cor. F.17", label, up, "attention_weight", key=key, query=query)


def _gradients() -> Iterator[Row]:
    yield Row(
        "|S2 - S3| / min(S2, S3) is small",
        "Lemma 4.4",
        "largest",
        _sums(lambda a, b, c, d: np.abs(b - c) / np.minimum(b, c)),
        report="largest",
    )
    yield Row(
        "1/2 <= S2/S3 <= 2",
        "Lemma 4.4",
        "nearest to a bound",
        _sums(lambda a, b, c, d: b / c),
        low=0.5,
        high=2.0,
        report="worst",
    )
    for name, ratio in (
        ("sum g / (S2 + S3 + S4 - S1)", lambda a, b, c, d: (a + b + c + d) / (b + c + d - a)),
        ("sum g / (S1 - S2)", lambda a, b, c, d: (a + b + c + d) / (a - b)),
        ("sum g / (S1 - S3)", lambda a, b, c, d: (a + b + c + d) / (a - c)),
    ):
        size = _sums(lambda *s, ratio=ratio: np.abs(ratio(*s)))
        yield Row(f"{name} is bounded", "Lemma 4.5", "largest size", size, report="largest")
    ratio = _sums(_attraction)
    yield Row(
        "1 <= R <= 3", "Lemma 4.5", "R nearest to a bound", ratio, low=1.0, high=3.0, report="worst"
    )
    yield Row("R is drawn into (1, 2)", "Lemma 4.5", "R at the end", ratio, "late", 1.0, 2.0)
    for name, quotient in (
        ("S4 <= min(S2, S3)", lambda a, b, c, d: d / np.minimum(b, c)),
        ("max(S2, S3) <= S1", lambda a, b, c, d: np.maximum(b, c) / a),
        ("S1 <= S2 + S3 + S4", lambda a, b, c, d: a / (b + c + d)),
    ):
        yield Row(name, "phase 2", "largest quotient", _sums(quotient), high=1.0, report="largest")


def _outcome() -> Iterator[Callable[[Evidence], Claim]]:
    rate, net = _of("readout_rate"), _of("readout")
    yield Row("|W^T a|^2 rises", "Lemma F.4", "net change", rate, low=0.0, net=net)
    name = "|W^T a|^2 rises from the start"
    yield Row(name, "Lemma F.4", "net change", rate, "run", low=0.0, net=net)
    yield Special("log-log slope of the loss is -1", "Thm F.8", "slope", _late_slope)
    yield Special("1/L grows as C s1^2 m m1 t", "Thm F.8", "C", _loss_rate)
    for name, variable in (("training", "loss"), ("test", "test_loss")):
        yield Row(f"{name} loss gets small", "Thm 3.3", "at the end", _of(variable), "end")
    for key, query, positive in ((1, 2, True), (2, 1, True), (3, 1, False), (3, 2, False)):
        name, coefficient = f"C_{key}{query}", _coefficient(key, query)
        claim = f"{name} {'>' if positive else '<'} 0"
        yield Row(claim, "Thm 3.3", name, coefficient, "end", *_sides(positive))
    yield Row(
        "C_12, C_21, C_31, C_32 exceed those of random words",
        "Thm 3.3",
        "smallest of these over largest of those",
        _domination,
        "end",
        low=1.0,
    )


def _coefficient(key: int, query: int) -> Callable[[Evidence], Series]:
    return lambda e: e.change("attention_score", key=key, query=query)


def _domination(e: Evidence) -> Series:
    random = e.series("random_score_change")
    return derived(lambda r, *c: np.min(np.abs(c), axis=0) / r, random, *trained_coefficients(e))


def trained_coefficients(e: Evidence) -> list[Series]:
    """C_12, C_21, C_31 and C_32 of Theorem 3.3."""
    return [_coefficient(key, query)(e) for key, query in TRAINED]


def _t1(e: Evidence, claim: Claim) -> Claim:
    time, error = e.phase("T1", e.series("min_margin"))
    return claim._replace(value=time, error=error, held=True, interval=(0.0, e.end))


def _t_half(e: Evidence, claim: Claim) -> Claim:
    time, error = e.phase("T_half", e.response_order())
    return claim._replace(value=time, error=error, held=True, interval=(0.0, e.moment("T1")))


def _constant(e: Evidence, claim: Claim) -> Claim:
    time, error = e.phase("T1", e.series("min_margin"))
    error = None if error is None else error * e.rate
    return claim._replace(value=time * e.rate, error=error, interval=(time, time), note="no bound")


def _late_slope(e: Evidence, claim: Claim) -> Claim:
    # A loss of margins beyond 745 is 0 in floating point.
    late = e.late(derived(lambda x: np.where(x > 0, x, np.nan), e.series("loss")))
    fit, error = log_slope(late)
    return claim._replace(
        value=fit.value,
        error=error if late.certified else None,
        interval=(float(late.times[0]), float(late.times[-1])),
        note=f"95 % interval of the fit {fit.low:.4g} to {fit.high:.4g}",
    )


def late_inverse_loss(e: Evidence) -> Series:
    """1/L at late times, whose slope Theorem F.8 speaks of."""
    return e.late(derived(lambda x: 1 / x, e.series("loss")))


def _loss_rate(e: Evidence, claim: Claim) -> Claim:
    late = late_inverse_loss(e)
    value, error = slope(late)
    return claim._replace(
        value=value / e.rate,
        error=error / e.rate if late.certified else None,
        interval=(float(late.times[0]), float(late.times[-1])),
        note="no bound",
    )


ROWS: tuple[Callable[[Evidence], Claim], ...] = (
    *_first_phase(),
    *_order_of_rates(),
    *_second_phase(),
    *_gradients(),
    *_outcome(),
)
