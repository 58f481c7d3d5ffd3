"""Scaling studies: the exponents, the limit of infinite width, and what is kept of a study."""

import json
import os
import signal
from collections import Counter

import jax
import numpy as np
import pytest
import xarray
from command import CONFIGS, gradflow, listing

import gradflow as gf
from gradflow import plotting
from gradflow.analysis import ensemble_order, fitted_order
from gradflow.flow import FlowSpec
from gradflow.progress import display
from gradflow.scaling import Scaling, figures, tabulated

# One program for all widths and numbers of neurons.
TASK = gf.tasks.Coupled(
    samples=12, length=3, vocabulary=16, width=256, neurons=2, unique_words=True,
    initialisation="theory", start="statistics", test_samples=6,
)  # fmt: skip
FLOW = {"t1": 2000 * TASK.unit_of_time, "rtol": 1e-4, "save": gf.Logarithmic(count=40)}
MEASURES = (
    "T1", "loss_rate", "attention_change", "random_score_change", "relative_score_change",
    "relative_score_change_at_T1",
)  # fmt: skip


@pytest.fixture(scope="module")
def study():
    """Three seeds over a factor of 16 in the width, and far beyond."""
    vary = {"width": [4096, 256, 1024, 10**8], "neurons": [1, 2]}
    return gf.scaling_study(TASK, vary, range(3), **FLOW)


def fit_of(study, measure, against="width", system="coupled system"):
    (found,) = (f for f in study.fits if f[:3] == (measure, against, system))
    return found


# Exponents


def test_the_exponent_of_an_ensemble_is_that_of_all_its_values_at_once():
    rng = np.random.default_rng(0)
    sizes = np.array([8.0, 2.0, 64.0, 16.0])
    values = 3.0 * sizes[:, None] ** -1.5 * np.exp(0.3 * rng.standard_normal((4, 5)))
    pooled = fitted_order(np.repeat(sizes, 5), values.ravel())
    found = ensemble_order(sizes, values)
    assert found.value == pytest.approx(pooled.value, rel=1e-12)
    assert found.prefactor == pytest.approx(pooled.prefactor, rel=1e-12)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("kept", [0.0, 1.0])
def test_the_interval_holds_the_exponent_as_often_as_it_says(kept):
    """Whether members differ anew at each size only, or also keep a level and a departure."""
    rng = np.random.default_rng(1)
    sizes, trials = np.array([1.0, 4.0, 16.0, 64.0]), 1500
    held = 0
    for _ in range(trials):
        level, tilt = kept * rng.standard_normal((2, 6)) * [[1.0], [0.1]]
        scatter = 0.2 * rng.standard_normal((4, 6)) + level + tilt * np.log(sizes)[:, None]
        found = ensemble_order(sizes, sizes[:, None] ** -1.0 * np.exp(scatter))
        held += found.low <= -1.0 <= found.high
    # Four standard deviations of a binomial share of 0.95.
    assert held / trials == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / trials))


def test_values_without_a_logarithm_are_left_out():
    sizes = np.array([1.0, 2.0, 4.0])
    values = np.array([[1.0, 3.0, np.nan], [2.0, 0.0, np.nan], [4.0, 12.0, 5.0]])
    found = ensemble_order(sizes, values)
    assert found[:3] == pytest.approx((1.0, 1.0, 1.0), rel=1e-12)
    # The prefactors 1 and 3 of two members, and 5/4 of one with a single value.
    expected = (3 * np.log(1) + 2 * np.log(3) + np.log(5 / 4)) / 6
    assert np.log(found.prefactor) == pytest.approx(expected, rel=1e-12)
    assert ensemble_order(sizes, values[:, :1]) == fitted_order(sizes, values[:, 0])
    assert np.isnan(ensemble_order(sizes, values[:, 2:])).all()


# The limit of infinite width


def test_wide_systems_are_where_the_limit_is(study):
    assert fit_of(study, "loss_rate").over_limit == pytest.approx(1.0, abs=0.02)
    # Up to the inverse of log(gamma^2 k t), which is 6.
    assert fit_of(study, "attention_change").over_limit == pytest.approx(1.0, abs=0.17)
    assert fit_of(study, "relative_score_change").over_limit == pytest.approx(1.0, abs=0.17)
    for measure, exponent in (("attention_change", -1.5), ("relative_score_change", -1.0)):
        fit = fit_of(study, measure)
        assert fit.limit == pytest.approx(exponent, abs=0.01)
        assert fit.at_largest == pytest.approx(exponent, abs=0.01)


def test_the_later_the_nearer_to_the_limit():
    """What is left out is smaller by the inverse of log(gamma^2 k t)."""
    wide = TASK.model_copy(update={"width": 2 * 10**9})
    problem, unit = wide.build(jax.random.key(0)), wide.unit_of_time
    off = []
    for late in (2e3, 2e6, 2e12):
        save = gf.Logarithmic(count=40, start=1e-6 * late * unit)
        flow = gf.solve(problem, t1=late * unit, rtol=1e-4, save=save)
        measured = [m for m in wide.measures(flow) if m.limit]
        assert [m.name for m in measured] == list(MEASURES[1:5])
        off.append([abs(m.value / m.limit - 1) for m in measured])
    assert (np.diff(off, axis=0)[:, 1:] < 0).all()
    assert max(off[-1][1:]) < 2 / np.log(1e12)
    assert off[-1][0] < 0.001


# Studies


@pytest.mark.parametrize(("measure", "exponent"), [("T1", -1.0), ("loss_rate", 1.0)])
def test_the_orders_of_the_paper(measure, exponent, study):
    """T1 ~ 1/(s1^2 m m_1) and d(1/loss)/dt ~ s1^2 m m_1, with s1^2 = 1/m_1."""
    fit = fit_of(study, measure)
    assert fit.order == pytest.approx(exponent, rel=1e-12)
    assert fit.order_agrees
    assert fit.exponent == pytest.approx(exponent, abs=0.05)
    assert fit.at_largest == pytest.approx(exponent, abs=0.005)
    assert fit_of(study, measure, "neurons").order == pytest.approx(0.0, abs=1e-12)


def test_what_is_recorded_is_what_the_runs_measure(study):
    record = study.record
    assert record.coords["width"].tolist() == [256, 1024, 4096, 10**8]
    wide = TASK.model_copy(update={"width": 1024})
    kept = FLOW | {"t1": FLOW["t1"] / 4}
    for seed in (0, 2):
        flow = gf.solve(wide.build(jax.random.key(seed)), **kept)
        measured = wide.measures(flow)
        assert tuple(measure.name for measure in measured) == MEASURES
        assert measured[0].value == wide.phases(flow)["T1"]
        claims = {claim.name: claim.value for claim in wide.claims(flow)}
        rate = claims["1/L grows as C s1^2 m m1 t"] * wide.rate
        assert measured[1].value == pytest.approx(rate, rel=1e-12)
        trained = [claims[name] for name in ("C_12 > 0", "C_21 > 0", "C_31 < 0", "C_32 < 0")]
        assert measured[2].value == pytest.approx(np.sqrt(np.mean(np.square(trained))), rel=1e-12)
        at_t1 = claims["W_K^T W_Q near its start at T1"]
        assert measured[5].value == pytest.approx(at_t1, rel=1e-12)
        for measure in measured:
            values = record.sel(f"{measure.name}_against_width", width=1024, seed=seed)
            assert values == pytest.approx([measure.value], rel=1e-12)
    # The base is run once and stands in both places.
    for name in MEASURES:
        a = record.sel(f"{name}_against_width", width=256)
        assert (a == record.sel(f"{name}_against_neurons", neurons=2)).all()


def test_the_transformer_measures_what_its_coupled_system_does():
    """From the same weights, to the tolerance; `test_coupled` has it to 1e-8."""
    task = TASK.model_copy(update={"width": 16, "start": "weights"})
    vary = {"width": [16, 64]}
    kept = {**FLOW, "t1": 2000 * task.unit_of_time}
    weights = 16 * (2 + 3 * 16)
    study = gf.scaling_study(task, vary, [3], model_weights=weights, **kept)
    assert study.record.coords["system"].tolist() == ["coupled system", "transformer"]
    for name in MEASURES:
        (both, alone) = study.record[f"{name}_against_width"][:, :, 0]
        assert both[1] == pytest.approx(both[0], rel=2e-3), name
        assert np.isfinite(alone[0])
        assert np.isnan(alone[1])
    # One seed has an interval from three sizes on.
    assert np.isnan(fit_of(study, "T1").low)


def test_what_fails_is_told_and_does_not_lose_the_rest(monkeypatch):
    build = type(TASK).build

    def failing(task, key, data_key=None):
        if task.width == 512:
            raise RuntimeError("no such width")
        return build(task, key, data_key)

    monkeypatch.setattr(type(TASK), "build", failing)
    study = gf.scaling_study(TASK, {"width": [256, 512, 1024]}, range(2), **FLOW)
    assert study.failures == ("coupled system, width 512: RuntimeError: no such width",)
    assert study.record.attrs["failures"] == list(study.failures)
    assert study.points == (2, 3)
    assert not study.cancelled
    assert fit_of(study, "T1").exponent == pytest.approx(-1.0, abs=0.1)

    none = gf.scaling_study(TASK, {"width": [256, 1024]}, [0], **FLOW, max_steps=3)
    assert not none.fits
    assert tabulated(none.fits) == []
    assert [line.partition(":")[0] for line in none.failures] == [
        "coupled system, width 256, seed 0",
        "coupled system, width 1024, seed 0",
    ]
    assert all("max_steps" in line for line in none.failures)


def test_it_says_how_far_it_is_and_ends_when_asked_to():
    told = []
    vary = {"width": [256, 1024, 4096]}
    study = gf.scaling_study(
        TASK, vary, [0], **FLOW, progress=told.append, cancelled=lambda: told[-1:] and last(told)
    )

    def shares(point):
        return [report.fraction for report in told if report.point == point]

    assert max(shares("coupled system, width 256")) == pytest.approx(1 / 3)
    assert min(shares("coupled system, width 1024")) >= 1 / 3
    assert not shares("coupled system, width 4096")
    assert study.cancelled
    assert study.points == (1, 3)
    T1 = study.record["T1_against_width"][:, 0, 0]
    assert np.isfinite(T1[0])
    assert np.isnan(T1[1:]).all()


def last(told):
    return told[-1].point == "coupled system, width 1024"


def test_runs_are_stretched_in_time():
    spec = FlowSpec(
        t1=8.0,
        save=gf.Logarithmic(start=1e-3, count=7),
        save_each={"a": gf.Explicit(times=(0.0, 0.25, 8.0)), "b": gf.Linear(count=5)},
        spectrum=gf.Spectrum(eigenvalues=1, save=gf.Explicit(times=(2.0,))),
    )
    long = spec.stretched(3.0)
    assert long.t1 == 24.0
    pairs = [(spec.save, long.save), (spec.spectrum.save, long.spectrum.save)]
    pairs += [(spec.save_each[name], long.save_each[name]) for name in "ab"]
    for before, after in pairs:
        assert after.build(24.0) == pytest.approx(3.0 * before.build(8.0), rel=1e-12)
    assert spec.stretched(1.0) == spec


# Faults


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        ({"widht": [1, 2]}, r"vary.widht: no size 'widht'; did you mean 'width'\? allowed: width"),
        ({"samples": [12, 20]}, "vary.samples: samples = 20: input should be a multiple of 6"),
        ({"length": [3, 9]}, "vary.length: length = 9: unique_words needs 80 random words"),
        ({"width": [8]}, "at least 2 items"),
        ({"width": [8, 8]}, "width has the value 8 twice; allowed: each once"),
        ({}, "at least 1 item"),
    ],
)
def test_mistakes(vary, told):
    with pytest.raises(ValueError, match=told):
        gf.scaling_study(TASK, vary, [0], t1=1.0)


def test_seeds_that_cannot_be():
    with pytest.raises(ValueError, match="seed 1 is there twice"):
        gf.scaling_study(TASK, {"width": [8, 16]}, [1, 1], t1=1.0)


def test_a_task_that_measures_nothing_is_refused():
    (fault,) = Scaling(vary={"samples": (10, 20)}).misfits(gf.tasks.Digits())
    assert fault[0] == ()
    assert fault[1].endswith("a problem of kind cooccurrence or coupled")


# By the command

CONFIG = """
problem:
  kind: coupled
  samples: 12
  length: 3
  vocabulary: 16
  width: 256
  neurons: 2
  unique_words: true
  initialisation: theory
  start: statistics
  test_samples: 6
flow:
  t1: 7.8125
  save: {kind: logarithmic, count: 40}
seeds: 3
scaling:
  vary: {width: [256, 1024, 4096], neurons: [1, 2]}
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory, study):
    del study  # has compiled it
    folder = tmp_path_factory.mktemp("study")
    (folder / "widths.yaml").write_text(CONFIG)
    done = gradflow("solve", folder / "widths.yaml", "--output", folder / "run")
    return folder / "run", done


def test_a_study_by_the_command(stored, study):
    run, done = stored
    assert (done.code, done.out) == (0, f"{run}\n")
    files = Counter(path.rpartition("/")[0] for path in listing(run))
    assert files == {"": 6, "figures": 2 * 2 * 3}
    kept = gf.load(run).scaling
    assert (kept["T1_against_width"] == study.record["T1_against_width"][:3]).all()
    with xarray.open_dataset(run / "scaling.nc") as data:
        assert data.T1_against_width.dims == ("width", "system", "seed")
    rows = json.loads((run / "summary.json").read_text())["scaling"]
    assert [row["measure"] for row in rows] == [name for name in MEASURES for _ in range(2)]
    assert rows[0]["exponent"] == pytest.approx(-1.0, abs=0.05)
    assert rows[0]["source"] == "Thm 3.1"
    assert rows[0]["limit"] is None
    heading, first = done.err.splitlines()[-13:-11]
    assert heading.split()[:3] == ["measure", "against", "system"]
    assert first.split()[:2] == ["T1", "width"]
    assert "  -1 yes (Thm 3.1)  -" in first


def test_a_study_is_drawn_again(stored):
    run, _ = stored
    before = listing(run)
    done = gradflow("plot", run)
    assert done.code == 0
    assert len(done.out.splitlines()) == 12
    assert listing(run) == before


def test_the_figures_of_a_study(study):
    drawn = figures(study.record, TASK.sizes)
    assert [figure.name for figure in drawn][:3] == [
        "scaling-width-T1",
        "scaling-width-attention-change",
        "scaling-width-relative-score-change",
    ]
    canvas = plotting.draw(drawn[0], study.record)
    t1, rate = canvas.axes
    points, law, order = t1.lines
    assert points.get_ydata() == pytest.approx(
        np.median(study.record["T1_against_width"][:, 0], axis=1)
    )
    fit = fit_of(study, "T1")
    for line, exponent in ((law, fit.exponent), (order, -1.0)):
        slope = fitted_order(line.get_xdata(), line.get_ydata())
        assert slope.value == pytest.approx(exponent, rel=1e-9)
    (bars,) = t1.collections
    assert len(bars.get_segments()) == 4
    assert rate.lines[-1].get_ydata() == pytest.approx(
        study.record["loss_rate_limit_against_width"]
    )
    assert [text.get_text() for text in canvas.legends[0].get_texts()][1:] == [
        "Thm 3.1: $-1$",
        "median and 10 to 90 % of 3 seeds",
    ]


def test_the_shipped_study_runs(tmp_path):
    small = [f"problem.{name}={getattr(TASK, name)}" for name in (*TASK.sizes, "vocabulary")]
    small += ["scaling={vary: {width: [256, 1024]}}", "seeds=2", "figures=false"]
    done = gradflow("solve", CONFIGS / "widths.yaml", *small, "--output", tmp_path / "run")
    assert done.code == 0, done.err
    T1 = gf.load(tmp_path / "run").scaling["T1_against_width"]
    assert (T1[1] < T1[0]).all()


def test_failures_and_interruptions_by_the_command(tmp_path, monkeypatch):
    (tmp_path / "widths.yaml").write_text(CONFIG)
    small = ("seeds=1", "scaling={vary: {width: [256, 1024]}}", "figures=false")
    solve = ("solve", tmp_path / "widths.yaml", *small, "--output")
    done = gradflow(*solve, tmp_path / "failed", "flow.max_steps=3")
    assert done.code == 3
    assert done.err.splitlines()[-1] == "2 failed; the others are kept"
    assert "coupled system, width 1024, seed 0: failed at t = " in done.err

    def interrupt(self, report):
        if report.fraction >= 0.5:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(display.Display, "update", interrupt)
    done = gradflow(*solve, tmp_path / "cut")
    assert done.code == 130
    assert done.err.splitlines()[-1].startswith(
        "interrupted after 1 of 2 points; these are kept; go on with: gradflow resume "
    )
    assert np.isfinite(gf.load(tmp_path / "cut").scaling["T1_against_width"][0]).all()
    page = (tmp_path / "cut/report.html").read_text(encoding="utf-8")
    assert "<b>Interrupted</b><span>; what was computed is kept; gradflow resume goes on" in page
