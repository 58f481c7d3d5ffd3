"""The paper's claims: their rows on made-up series, on runs, in the file and in the table."""

import json
from functools import cache

import jax
import numpy as np
import pytest
from command import QUICKSTART, SMALL, gradflow

import gradflow as gf
from gradflow.analysis import Series, derived, log_slope, slope
from gradflow.tasks import tabulated

LOG = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 61)])


def series(values, errors=None, times=LOG):
    return Series.of(times, values, errors)


@cache
def run_of(kind):
    """Seed 0 at the paper's size, certified."""
    task = gf.tasks.Cooccurrence() if kind == "transformer" else gf.tasks.Coupled()
    save = gf.Logarithmic(count=120, start=1e-3)
    problem = task.build(jax.random.key(0))
    return task, gf.solve(problem, t1=300.0, rtol=2e-4, certify=True, save=save)


@cache
def rows_of(kind):
    task, flow = run_of(kind)
    return {claim.name: claim for claim in task.claims(flow)}


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


# Rows of the paper's size.


def test_seed_0():
    rows = rows_of("transformer")
    assert rows["T1 is reached"].value == pytest.approx(0.222, abs=5e-4)
    assert rows["T_half <= T1"].value == pytest.approx(0.0185, abs=5e-5)
    assert rows["G1 + G3 < 0"].held is False
    assert rows["G1 + G3 < 0"].value == pytest.approx(0.843, abs=1e-2)
    assert rows["log-log slope of the loss is -1"].value == pytest.approx(-1, abs=0.15)


def test_both_problems_have_the_same_rows():
    one, other = rows_of("transformer"), rows_of("coupled")
    assert list(one) == list(other)
    for name, claim in one.items():
        twin = other[name]
        if "w_i, w_j" in name:
            assert (twin.value, twin.note) == (None, "neuron_change is not recorded")
            continue
        assert claim.held is twin.held, name
        assert twin.value == pytest.approx(claim.value, rel=1e-2), name
        errors = (claim.error or 0.0) + (twin.error or 0.0)
        assert abs((twin.value or 0.0) - (claim.value or 0.0)) <= 2 * errors, name
        if claim.share is not None:
            assert twin.share == pytest.approx(claim.share, abs=2e-3), name


# The file and the table.


@pytest.mark.parametrize("kind", ["cooccurrence", "coupled"])
def test_the_command_writes_and_prints_them(tmp_path, kind):
    run = tmp_path / "run"
    size = (*SMALL, f"problem.kind={kind}", "figures=false", "--output", run)
    done = gradflow("solve", QUICKSTART, *size)
    assert done.code == 0
    rows = json.loads((run / "claims.json").read_text())["claims"]
    task = gf.tasks.Cooccurrence() if kind == "cooccurrence" else gf.tasks.Coupled()
    assert len({row["name"] for row in rows}) == len(rows) > 40
    assert set(rows[0]) == set(gf.tasks.Claim._fields)
    table = done.err.splitlines()[-len(rows) - 1 :]
    assert table[0].split() == ["claim", "source", "held", "share", "times", "measured"]
    for line, row in zip(table[1:], rows, strict=True):
        assert line.startswith(row["name"])
        said = line[table[0].index("held") :].split()[0]
        assert said == {True: "yes", False: "NO", None: "-"}[row["held"]]
    again = gradflow("solve", QUICKSTART, *size, "--overwrite", "--quiet")
    assert (again.code, again.err) == (0, "")
    flow = gf.load(run).flow
    assert [claim.name for claim in task.claims(flow)] == [row["name"] for row in rows]


def test_a_task_without_claims_prints_no_table():
    assert tabulated(gf.tasks.Digits().claims(run_of("coupled")[1])) == []
