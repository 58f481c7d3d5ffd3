"""The paper's claims: their rows on made-up series, on runs, in the file and in the table."""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
import reference as ref
from command import QUICKSTART, SMALL, gradflow
from numpy.linalg import norm
from scipy.stats import binomtest

import gradflow as gf
from gradflow import storage
from gradflow.analysis import Series, derived, log_slope, slope
from gradflow.tasks import tabulated

LOG = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 61)])


def series(values, errors=None, times=LOG):
    return Series.of(times, values, errors)


class Stored(NamedTuple):
    """What the command left of a run, and what it said."""

    folder: Path
    task: gf.tasks.Task
    flow: gf.Trajectory
    file: list[dict]
    said: list[str]

    @property
    def rows(self):
        return {claim.name: claim for claim in self.task.claims(self.flow)}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Seed 0 at the paper's size: the transformer, certified, and the coupled system, not."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for task in (gf.tasks.Cooccurrence(), gf.tasks.Coupled()):
        config, run = folder / f"{task.kind}.yaml", folder / task.kind
        config.write_text(
            f"problem: {{kind: {task.kind}}}\n"
            "flow: {t1: 300, rtol: 1e-6, save: {kind: logarithmic, count: 120, start: 1e-3}}\n"
        )
        # Of the coupled system the state is mostly |W^T a|^2, and so is what rtol is relative to.
        own = "flow.certify=true" if task.kind == "cooccurrence" else "flow.rtol=1e-8"
        done = gradflow("solve", config, own, "figures=false", "--output", run)
        assert done.code == 0, done.err
        file = json.loads((run / "claims.json").read_text())["claims"]
        found[task.kind] = Stored(run, task, gf.load(run).flow, file, done.err.splitlines())
    return found


# Series.


def test_shares_are_of_log_time():
    with np.errstate(divide="ignore"):
        x = np.where(LOG > 0, np.log10(LOG), -9.0)
    for level, share in ((-4, 1), (-3, 1), (0, 1 / 2), (2.0321, (3 - 2.0321) / 6), (3, 0), (5, 0)):
        assert series(x - level).share_positive() == pytest.approx(share, abs=1e-12)
        assert series(level - x).share_positive() == pytest.approx(1 - share, abs=1e-12)
    part = series(x - 1).within(1e-1, 1e2)
    assert part.share_positive() == pytest.approx(1 / 3, abs=1e-12)
    assert part.times[[0, -1]].tolist() == [1e-1, 1e2]


def test_values_between_samples():
    with np.errstate(divide="ignore"):
        x = np.where(LOG > 0, np.log10(LOG), 0.0)
    cubic = series(x**3 - x, np.full(len(LOG), 1e-3))
    for time in (2e-3, 0.0314, 7.7, 999.0):
        value, error = cubic.at(time)
        exact = np.log10(time) ** 3 - np.log10(time)
        assert value == pytest.approx(exact, abs=1e-12)
        assert 1e-3 <= error < 1e-3 * 1.7 + 0.01
    wave = series(np.sin(x))
    for time in np.geomspace(2e-3, 900, 50):
        value, error = wave.at(time)
        # The estimate vanishes with the third derivative.
        assert abs(value - np.sin(np.log10(time))) <= error + 3e-6 < 1e-3
    assert series(3 * LOG).at(5e-4)[0] == pytest.approx(1.5e-3)  # from t = 0 in t itself
    with pytest.raises(ValueError, match="both sides of t = 2000"):
        cubic.at(2000.0)


def test_verdicts_heed_errors():
    def verdict(values, error=None):
        errors = None if error is None else np.full(len(values), error)
        return Series.of(np.arange(1.0, 4), np.array(values), errors).is_positive()

    assert verdict([1, 2, 3]) is True
    assert verdict([1, 2, 3], 0.5) is True
    assert verdict([1, 2, 3], 1.5) is None
    assert verdict([-1, 2, 3], 1.5) is None
    assert verdict([-2, 1, 3], 1.5) is False
    assert verdict([0, 1, 2]) is False


def test_errors_of_what_is_derived():
    a = series(np.full(62, 2.0), np.full(62, 0.01))
    b = series(np.full(62, 4.0), np.full(62, 0.02))
    assert derived(lambda x, y: x - y, a, b).errors == pytest.approx(0.03)
    assert derived(lambda x, y: x / y, a, b).errors == pytest.approx(0.005, rel=1e-2)
    assert derived(np.minimum, a, b).errors == pytest.approx(0.01)
    assert not derived(np.minimum, a, series(LOG)).certified
    assert len(derived(lambda x: 1 / x, series(LOG)).times) == len(LOG) - 1


def test_slopes():
    positive = LOG[1:]
    values = 5 * positive**-1.25
    fit, error = log_slope(Series.of(positive, values, 1e-3 * values))
    assert fit.value == pytest.approx(-1.25, abs=1e-12)
    # No errors of that relative size can move the slope further.
    tilted = values * np.exp(1e-3 * np.sign(np.log(positive)))
    moved, _ = log_slope(Series.of(positive, tilted, None))
    assert moved.value - fit.value == pytest.approx(error, rel=1e-9)
    assert slope(Series.of(positive, 2 - 7 * positive, None))[0] == pytest.approx(-7)


# Rows on made-up trajectories.

CLASS = ("both", "first", "second", "neither")


def made_up(t1=0.1, errors=(), **variables):
    """A trajectory of which these variables are known, over time and special words.

    Args:
        t1: when phase 1 ends, T_half being 0.01; 0 for a run in which it does not.
        errors: of variables, by name.
        variables: by name, what can be broadcast to their shapes.
    """
    axes = {
        "response": ("word",),
        "response_rate": ("word",),
        "class_gradient": ("class",),
        "attention_score": ("key", "query"),
        "attention_score_rate": ("key", "query"),
    }
    words = np.arange(1, 4)
    coords = {"time": LOG, "class": np.array(CLASS), "word": words, "key": words, "query": words}
    every = variables | {f"{name}_error": error for name, error in dict(errors).items()}
    held = {}
    for name, values in every.items():
        dims = ("time", *axes.get(name.removesuffix("_error"), ()))
        held[name] = gf.Variable(np.broadcast_to(values, [len(coords[d]) for d in dims]), dims)
    rises = {"min_margin": t1, "response_order": 0.01}
    return gf.Trajectory(
        held,
        coords,
        final_time=LOG[-1],
        stats={},
        result="end_time",
        crossings={k: np.array([[t, 1.0]])[: t1 > 0] for k, t in rises.items()},
        event_values=dict.fromkeys(rises, 1.0 if t1 > 0 else -1.0),
    )


def row(name, **made):
    (claim,) = (c for c in gf.tasks.Cooccurrence().claims(made_up(**made)) if c.name == name)
    return claim


def columns(*values):
    """Arrays over time, side by side."""
    return np.stack(np.broadcast_arrays(*values, LOG)[:-1], axis=1)


# Over the four decades from T1 = 0.1 to 1000: falls through zero at t = 10.
with np.errstate(divide="ignore"):
    FALLING = np.where(LOG > 0, 1 - np.log10(LOG), 9.0)


def test_signs_of_responses():
    cases = {
        "G1 + G3 < 0": (columns(1, 1, -2), True, 1, -1),
        "G2 + G3 < 0": (columns(1, 3, -2), False, 0, 1),
        "G1 > 0": (columns(FALLING, 1, 1), False, 1 / 2, -2),
        "G1 + G2 + G3 > 0": (columns(FALLING - 5, 2, 3), False, 1 / 2, -2),
    }
    for name, (response, held, share, end) in cases.items():
        claim = row(name, response=response)
        assert (claim.held, claim.source, claim.note) == (held, "Thm 3.2", "")
        assert claim.share == pytest.approx(share)
        assert claim.value == pytest.approx(end)
        assert claim.error is None
        assert claim.interval == pytest.approx((0.1, 1000))


def test_signs_within_their_errors_are_left_open():
    response = columns(1.0, 1.0, -1.5)
    for error, held in ((0.2, True), (0.3, None)):  # the errors of both count
        claim = row("G1 + G3 < 0", response=response, errors={"response": error})
        assert claim.held is held
        assert claim.error == pytest.approx(2 * error)
        assert claim.note == ("" if held else "within its error")
        assert claim.value == pytest.approx(-0.5)
    # What fails by more than its error somewhere fails.
    claim = row("G1 > 0", response=columns(FALLING, 1, 1), errors={"response": 1.5})
    assert claim.held is False


def test_scores_that_move():
    rate = np.zeros((len(LOG), 3, 3))
    rate[:, 0, 1] = FALLING
    rate[:, 2, 0] = -1
    score = np.zeros((len(LOG), 3, 3))
    score[:, 0, 1] = 5 - FALLING
    made = {"attention_score_rate": rate, "attention_score": score}
    claim = row("score (key 1, query 2) rises", **made)
    assert (claim.held, claim.share) == (False, pytest.approx(1 / 2))
    assert claim.value == pytest.approx(4)  # from t = 0.1 to 1000
    assert row("score (key 3, query 1) falls", **made).held is True
    assert row("score (key 2, query 1) rises", **made).held is False  # it stands still


def test_order_of_rates():
    lower, upper = "max(G1', G2') < -G3'", "-G3' < G1' + G2'"
    made = {"response_rate": columns(1, 2, -2.5)}
    assert row(lower, **made).held is row(upper, **made).held is True
    assert row(lower, **made).value == pytest.approx(0.25)
    assert row(upper, **made).value == pytest.approx(0.5 / 3)
    start, end = row(lower, **made).interval or (0, 0)
    assert 0.01 < start < 0.0127  # the first save time after T_half
    assert end == 0.1
    after = row(f"{upper} after T1", response_rate=columns(1, 2, FALLING - 5.5))
    assert after.held is False
    assert after.share == pytest.approx(0)  # 3 - 5.5 + FALLING is not positive from t = 0.1 on
    assert after.value == pytest.approx(-4.5 / 3)


def test_sums_of_gradients():
    sums = {"class_gradient": columns(6, 4, 2, 1)}
    expected = {
        "|S2 - S3| / min(S2, S3) is small": (1, None),
        "1/2 <= S2/S3 <= 2": (2, False),
        "sum g / (S2 + S3 + S4 - S1) is bounded": (13, None),
        "sum g / (S1 - S2) is bounded": (6.5, None),
        "sum g / (S1 - S3) is bounded": (13 / 4, None),
        "1 <= R <= 3": (1 / 2, False),
        "R is drawn into (1, 2)": (1 / 2, False),
        "S4 <= min(S2, S3)": (1 / 2, True),
        "max(S2, S3) <= S1": (2 / 3, True),
        "S1 <= S2 + S3 + S4": (6 / 7, True),
    }
    for name, (value, held) in expected.items():
        claim = row(name, **sums)
        assert claim.value == pytest.approx(value), name
        assert claim.held is held, name
        assert (claim.note == "no bound") is (held is None)
    # A ratio that leaves [1/2, 2] after half of the decades.
    claim = row("1/2 <= S2/S3 <= 2", class_gradient=columns(6, 3 - FALLING, 1.5, 1))
    assert (claim.held, claim.value) == (False, pytest.approx(5 / 1.5))
    assert claim.share == pytest.approx(1 / 2)


def test_rate_of_the_loss():
    with np.errstate(divide="ignore"):
        loss = 0.02 / LOG**1.0
    task = gf.tasks.Cooccurrence()
    rate = 128 * 256 / (3 * 128)  # s1^2 m m1, as uniform on +-1/sqrt(128) has it
    made = {"loss": loss, "errors": {"loss": 1e-4 * loss}}
    late = row("log-log slope of the loss is -1", **made)
    assert late.value == pytest.approx(-1)
    assert late.held is None
    assert 0 < (late.error or 0) < 1e-3
    assert late.interval == pytest.approx((100, 1000))
    assert row("1/L grows as C s1^2 m m1 t", **made).value == pytest.approx(50 / rate)
    margin = {"min_margin": np.where(LOG > 0, 1 - FALLING, -9.0) + 1}
    constant = row("T1 = C / (s1^2 m m1)", **margin)
    assert constant.value == pytest.approx(0.1 * rate)
    assert task.deviation("w") ** 2 * task.width * task.neurons == pytest.approx(rate)


def test_sums_and_losses_that_vanish():
    """Beyond margins of 745 floating point has nothing but zeros; these are left out."""
    gone = np.where(LOG < 200, 1.0, 0.0)
    sums = {"class_gradient": columns(6 * gone, 4 * gone, 2 * gone, gone)}
    claim = row("max(S2, S3) <= S1", **sums)
    assert (claim.held, claim.value) == (True, pytest.approx(2 / 3))
    assert claim.interval == pytest.approx((0.1, LOG[LOG < 200][-1]))
    never = row("log-log slope of the loss is -1", loss=np.where(LOG < 50, 1.0, 0.0))
    assert (never.value, never.note) == (None, "too few save times")


def test_coefficients_and_those_of_random_words():
    score = np.zeros((len(LOG), 3, 3))
    score[1:, [0, 1, 2, 2], [1, 0, 0, 1]] = [5, 4, -3, 2]
    made = {"attention_score": score + 7, "random_score_change": np.where(LOG > 0, 1.5, 0.0)}
    for name, value in (("C_12 > 0", 5), ("C_21 > 0", 4), ("C_31 < 0", -3), ("C_32 < 0", 2)):
        claim = row(name, **made)
        assert claim.value == pytest.approx(value)
        assert claim.held is (name != "C_32 < 0")
        assert claim.interval == (1000, 1000)
        assert claim.share is None
    claim = row("C_12, C_21, C_31, C_32 exceed those of random words", **made)
    assert (claim.held, claim.value) == (True, pytest.approx(2 / 1.5))


def test_phases_not_reached():
    claims = gf.tasks.Cooccurrence().claims(made_up(t1=0, response=1.0, loss=1.0, min_margin=-1.0))
    rows = {claim.name: claim for claim in claims}
    for name in ("T1 is reached", "G1 > 0", "G1 > 0 at T1", "log-log slope of the loss is -1"):
        assert rows[name].held is rows[name].value is None
        assert rows[name].note == "T1 is not reached by t = 1e+03"
    assert rows["training loss gets small"].value == 1  # of no phase


def test_nothing_recorded():
    for claim in gf.tasks.Coupled().claims(made_up()):
        assert claim.held is claim.value is None
        assert "is not recorded" in claim.note


def test_the_table():
    claims = (
        gf.tasks.Claim("a < b", "Thm 1", "a", 1.0, 1e-3, True, 1.0, (0.0, 2.0)),
        gf.tasks.Claim("b", "Lemma 10", "b", 0.25, None, False, 0.999, (1.0, 2.0), "late"),
        gf.tasks.Claim("c", "Thm 1", "c", note="not recorded"),
    )
    assert tabulated(claims) == [
        "claim  source    held  share   times   measured",
        "a < b  Thm 1     yes   100 %   0 to 2  a 1 +- 0.001",
        "b      Lemma 10  NO    > 99 %  1 to 2  b 0.25 (late)",
        "c      Thm 1     -                     c (not recorded)",
    ]
    assert tabulated(()) == tabulated(gf.tasks.Task.claims(gf.tasks.Digits(), made_up())) == []


def test_claims_of_many_seeds_are_tallied():
    def of(value, held, note="", error=None, share=None):
        return (gf.tasks.Claim("a < b", "Thm 1", "a", value, error, held, share, None, note),)

    claims = {
        3: of(1.0, True, error=1e-3, share=1.0),
        4: of(2.0, True, error=2e-3, share=1.0),
        5: of(3.0, False, error=1e-4, share=0.25),
        6: of(None, None, "T1 is not reached"),
    }
    (found,) = gf.tasks.tally(claims)
    assert (found.seeds, found.decided, found.held) == (4, 3, 2)
    assert found.share == 2 / 3
    assert (found.low, found.high) == pytest.approx(
        tuple(binomtest(2, 3).proportion_ci(method="exact"))
    )
    assert (found.value, found.error, found.log_time) == (2.0, 2e-3, 1.0)
    assert (found.value_low, found.value_high) == pytest.approx((1.2, 2.8))
    assert found.by_seed["5"] == {"value": 3.0, "held": False, "share": 0.25}
    assert found.note == "1 undecided: T1 is not reached"
    assert tabulated((found,)) == [
        "claim  source  seeds   share  95 % interval  log time  "
        "measured: median (10 to 90 % of seeds)",
        "a < b  Thm 1   2 of 3  67 %   9 to 99 %      100 %     "
        "a 2 (1.2 to 2.8) (1 undecided: T1 is not reached)",
    ]
    assert gf.tasks.tally({}) == ()


def test_what_is_said_of_single_seeds_is_not_said_of_all():
    def of(note):
        return (gf.tasks.Claim("a", "Thm 1", "slope", note=note),)

    (alike,) = gf.tasks.tally({seed: of("no bound") for seed in range(3)})
    assert (alike.note, alike.decided, alike.share, alike.value) == ("no bound", 0, None, None)
    (different,) = gf.tasks.tally({seed: of(f"fit of seed {seed}") for seed in range(3)})
    assert different.note == ""
    (row,) = tabulated((different,))[1:]
    assert row.split() == ["a", "Thm", "1", "-", "slope"]


# Runs.


def test_both_problems_have_the_same_rows(stored):
    one, other = stored["cooccurrence"].rows, stored["coupled"].rows
    assert list(one) == list(other)
    for name, claim in one.items():
        twin = other[name]
        if "w_i, w_j" in name:
            assert (twin.value, twin.note) == (None, "neuron_change is not recorded")
            continue
        assert claim.held is twin.held, name
        assert claim.error is not None, name
        assert twin.error is None, name
        assert twin.value == pytest.approx(claim.value, rel=1e-3), name
        if claim.share is not None:
            assert twin.share == pytest.approx(claim.share, abs=2e-3), name


def moved(now, then):
    """How far matrices are from where they began, relative to these."""
    return norm(now - then) / norm(then)


def mean_weight(weights, tokens, key, query):
    """The mean softmax weight of one word's position in another's query, sentence by sentence."""
    found = []
    for sentence in tokens:
        if {key, query} <= set(sentence.tolist()):
            logits = weights.w_k[:, sentence].T @ weights.w_q[:, query] / np.sqrt(len(weights.w_k))
            softmax = np.exp(logits) / np.exp(logits).sum()
            found.append(softmax[sentence.tolist().index(key)])
    return np.mean(found)


def test_numbers_equal_the_oracles(stored):
    """The end from the stored weights, and phase 1 as SciPy integrates hand-written gradients."""
    run = stored["cooccurrence"]
    rows = run.rows
    problem = run.task.build(jax.random.key(0))
    start, train = problem.model(problem.params), problem.data.train
    first = ref.Weights(*map(np.asarray, (start.w, start.w_v, start.w_k, start.w_q)))
    a, tokens, labels = map(np.asarray, (start.signs, train.tokens, train.labels))
    with np.load(run.folder / "flow-final.npz") as arrays:
        last = ref.Weights(*(arrays[name] for name in ("w", "w_v", "w_k", "w_q")))

    def check(name, value, rel=1e-4):
        claim = rows[name]
        assert claim.value == pytest.approx(value, rel=rel), name
        return claim

    # T1 and T_half, by brute force.
    coarse = np.concatenate([[0.0], np.geomspace(0.01, 0.3, 40)])
    path = ref.solve(first, a, tokens, labels, coarse, rtol=1e-9, atol=1e-11)

    def since(function, until):
        values = np.array([function(w) for w in path])
        i = np.flatnonzero((values <= 0) & (coarse < until))[-1]
        fine = np.linspace(0, coarse[i + 1] - coarse[i], 30)
        values = [
            function(w) for w in ref.solve(path[i], a, tokens, labels, fine, rtol=1e-9, atol=1e-11)
        ]
        return coarse[i] + np.interp(0.0, values, fine)

    def rates(w):
        fall = ref.gradient(w, a, tokens, labels)
        return -((a @ fall.w) @ w.w_v + (a @ w.w) @ fall.w_v)[:3]

    def order(w):
        g1, g2, g3 = rates(w)
        return min(-g3 - max(g1, g2), g1 + g2 + g3)

    t1 = since(lambda w: (labels * ref.predict(w, a, tokens)).min(), np.inf)
    check("T1 is reached", t1)
    check("T1 is reached", 0.222, rel=2e-3)
    check("T1 = C / (s1^2 m m1)", t1 * 256 / 3)
    check("T_half <= T1", since(order, t1), rel=1e-3)
    check("T_half <= T1", 0.0185, rel=5e-3)

    # At T1.
    _, then = ref.solve(first, a, tokens, labels, np.array([0.0, t1]), rtol=1e-9, atol=1e-11)
    response = (a @ then.w) @ then.w_v
    for word, sign in ((1, ">"), (2, ">"), (3, "<")):
        assert check(f"G{word} {sign} 0 at T1", response[word - 1]).held is True
    check("loss at T1 is Theta(1)", ref.loss(then, a, tokens, labels))
    words = np.unique(tokens)

    def table(w, one, other):
        return getattr(w, one)[:, words].T @ getattr(w, other)[:, words]

    for name, one, other in (
        ("W_K^T W_Q", "w_k", "w_q"),
        ("W_V^T W_V", "w_v", "w_v"),
        ("W_K^T W_K", "w_k", "w_k"),
        ("W_Q^T W_Q", "w_q", "w_q"),
    ):
        change = moved(table(then, one, other), table(first, one, other))
        check(f"{name} near its start at T1", change, rel=3e-3)
    change = moved(then.w @ then.w.T, first.w @ first.w.T)
    check("<w_i, w_j> near its start at T1", change, rel=3e-3)
    g1, g2, g3 = rates(then)
    check("max(G1', G2') < -G3'", -g3 / max(g1, g2) - 1, rel=1e-2)
    check("-G3' < G1' + G2'", 1 + g3 / (g1 + g2), rel=1e-3)

    # At the end.
    response = (a @ last.w) @ last.w_v
    assert check("G1 + G3 < 0", response[0] + response[2]).held is False
    check("G2 + G3 < 0", response[1] + response[2])
    check("training loss gets small", ref.loss(last, a, tokens, labels))
    scores = table(last, "w_k", "w_q") - table(first, "w_k", "w_q")
    assert words[:3].tolist() == [0, 1, 2]
    for key, query, sign in ((1, 2, ">"), (2, 1, ">"), (3, 1, "<"), (3, 2, "<")):
        claim = check(f"C_{key}{query} {sign} 0", scores[key - 1, query - 1])
        assert claim.held is ((claim.value > 0) == (sign == ">"))
    random = np.abs(scores)
    random[:3, :3] = 0
    ours = np.abs(scores[[0, 1, 2, 2], [1, 0, 0, 1]]).min()
    check("C_12, C_21, C_31, C_32 exceed those of random words", ours / random.max())
    net = norm(a @ last.w) ** 2 - norm(a @ first.w) ** 2
    check("|W^T a|^2 rises from the start", net, rel=1e-3)
    assert rows["|W^T a|^2 rises"].held is True
    margins = labels * ref.predict(last, a, tokens)
    g = 1 / (1 + np.exp(margins))
    lemma_f4 = 2 * 256 / 60 * (g @ margins)
    assert run.flow["readout_rate"][-1] == pytest.approx(lemma_f4, rel=1e-4)
    for key, query, verb in ((1, 2, "rises"), (2, 1, "rises"), (3, 1, "falls"), (3, 2, "falls")):
        weights = [mean_weight(w, tokens, key - 1, query - 1) for w in (then, last)]
        name = f"softmax weight (key {key}, query {query}) {verb}"
        assert check(name, weights[1] - weights[0], rel=1e-3).held is True
    s1, s2, s3, s4 = (g[np.asarray(train.kinds) == kind].sum() for kind in range(4))
    check("R is drawn into (1, 2)", (s2 + s3 + s4 - s1) / (s1 - s2), rel=1e-3)
    assert rows["log-log slope of the loss is -1"].value == pytest.approx(-1, abs=0.15)
    late = run.flow.time > 30
    line = np.polyfit(np.log(run.flow.time[late]), np.log(run.flow["loss"][late]), 1)
    check("log-log slope of the loss is -1", line[0], rel=3e-3)


def test_the_command_writes_and_prints_them(stored):
    for run in stored.values():
        names = [row["name"] for row in run.file]
        assert len(set(names)) == len(names) > 50
        assert run.file == json.loads(json.dumps([c._asdict() for c in run.rows.values()]))
        assert run.said[-len(names) - 1 :] == tabulated(tuple(run.rows.values()))


def test_quiet_prints_no_table_and_a_new_run_replaces_the_file(tmp_path):
    run = tmp_path / "run"
    size = (*SMALL, "figures=false", "--quiet", "--output", run)
    assert gradflow("solve", QUICKSTART, *size).err == ""
    assert (run / "claims.json").exists()
    storage.create(run, {"versions": {"gradflow": "0"}}, overwrite=True)
    assert not (run / "claims.json").exists()
