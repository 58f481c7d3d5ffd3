"""Ensembles: each run is the one that `solve` makes, and together they lose none."""

import threading

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest

import gradflow as gf

RTOL = 1e-6
RATE = 2.0


def loss(params, data):
    return 0.5 * data * params["x"] ** 2


def position(t, params, data):
    return params["x"]


def bowl(seed):
    """Starts at 1 + seed; its flow is (1 + seed) exp(-RATE t)."""
    return gf.Problem(loss, {"x": jnp.asarray(1.0 + seed)}, jnp.asarray(RATE))


def solved(build, seeds, **options):
    options = {"t1": 2.0, "rtol": RTOL, "save": gf.Linear(count=9)} | options
    return gf.solve_ensemble(build, seeds, observables={"x": position}, **options)


def test_every_seed_has_the_run_that_solve_makes_whatever_the_threads():
    seeds = (3, 0, 7, 1)
    ensemble = solved(bowl, seeds)
    assert list(ensemble.members) == list(seeds)
    assert not ensemble.failures
    assert ensemble.members == ensemble.whole
    for at_once in (1, 3):
        other = solved(bowl, seeds, at_once=at_once)
        assert np.array_equal(other["x"], ensemble["x"])
    for i, seed in enumerate(seeds):
        lone = gf.solve(
            bowl(seed), t1=2.0, rtol=RTOL, save=gf.Linear(count=9), observables={"x": position}
        )
        for name in lone:
            assert np.array_equal(ensemble[name][..., i], lone[name], equal_nan=True)
    # Against the closed form.
    assert ensemble.record.variables["x"].dims == ("time", "seed")
    exact = (1 + np.array(seeds)) * np.exp(-RATE * ensemble.time)[:, None]
    travelled = (1 + np.array(seeds)) - exact
    assert (abs(ensemble["x"] - exact) <= 10 * RTOL * travelled).all()
    dataset = ensemble.to_xarray()
    assert dataset["loss"].sel(seed=7).values.tolist() == ensemble["loss"][:, 2].tolist()
    assert ensemble.record.stats["gradient_evaluations"] == sum(
        run.stats["gradient_evaluations"] for run in ensemble.members.values()
    )


def test_a_run_that_ends_early_leaves_no_number_behind():
    ensemble = solved(bowl, (0, 1, 2), stop=gf.Stop(loss=1.0), save_each={"x": gf.Linear(count=5)})
    ends = {seed: run.final_time for seed, run in ensemble.members.items()}
    # The loss falls to 1 at log(1 + seed) / RATE.
    assert ends[0] < ends[1] < ends[2] < 2.0
    assert [run.result for run in ensemble.whole.values()] == ["loss"] * 3
    record = ensemble.record
    # The rows where single runs were cut short are theirs alone.
    assert np.isin(record.time, np.linspace(0.0, 2.0, 9)).all()
    assert np.isin(record.times("x"), np.linspace(0.0, 2.0, 5)).all()
    for i, end in enumerate(ends.values()):
        assert np.array_equal(np.isnan(record["loss"][:, i]), record.time > end)
    assert record.attrs["results"] == {"0": "loss", "1": "loss", "2": "loss"}
    assert record.result == "loss"


def test_a_run_of_one_seed_keeps_its_end():
    run = solved(bowl, [2], stop=gf.Stop(loss=1.0))
    assert run.time[-1] == run.members[2].final_time
    assert run["loss"].shape == (len(run.time), 1)


def test_a_seed_that_fails_is_told_of_and_loses_no_other():
    def build(seed):
        if seed == 5:
            raise RuntimeError("no data for 5")
        # Of the loss -x^4 / 4 the flow is infinite at t = 1 / (2 x0^2).
        problem = bowl(seed)
        if seed == 2:
            return gf.Problem(
                lambda p, d: -d * p["x"] ** 4 / 4, {"x": jnp.asarray(1.0)}, jnp.asarray(1.0)
            )
        return problem

    ensemble = solved(build, (0, 2, 5, 6))
    assert list(ensemble.whole) == [0, 6]
    assert list(ensemble.members) == [0, 2, 6]
    assert list(ensemble.failures) == [2, 5]
    assert ensemble.findings[0].startswith("seed 2 failed at t = 0.5")
    assert "no step was small enough" in ensemble.failures[2]
    assert ensemble.findings[1] == "seed 5 failed with RuntimeError: no data for 5"
    assert np.isnan(ensemble["x"][-1, 1])
    assert ensemble["x"][-1, 2] == pytest.approx(7 * np.exp(-2 * RATE), rel=1e-5)
    assert ensemble.record.result == "step_underflow"


def test_where_no_seed_comes_to_a_run_its_own_error_surfaces():
    def build(seed):
        raise LookupError(f"nothing for {seed}")

    with pytest.raises(LookupError, match="nothing for 4"):
        solved(build, (4, 5))


def test_very_many_failures_are_counted():
    def build(seed):
        if seed:
            raise RuntimeError("nothing")
        return bowl(seed)

    found = solved(build, range(30)).findings
    assert len(found) == 11
    assert found[-1] == "and 19 seeds more"


@pytest.mark.parametrize(
    ("seeds", "options", "error", "message"),
    [
        ((), {}, ValueError, "there are no seeds"),
        (0, {}, ValueError, "there are no seeds"),
        ((0.5, 1.5), {}, TypeError, "float"),
        ((1, 2, 1), {}, ValueError, "seed 1 is there twice"),
        ((1,), {"at_once": 0}, ValueError, "at_once = 0 must be 1 at least"),
        ((1,), {"rtoll": 1e-3}, TypeError, "rtoll"),
        ((1,), {"rtol": 2.0}, ValueError, "rtol"),
    ],
)
def test_wrong_arguments_are_named(seeds, options, error, message):
    with pytest.raises(error, match=message):
        solved(bowl, seeds, **options)


def test_what_builds_no_problem_is_named():
    with pytest.raises(TypeError, match=r"build must be a function of a seed.*task\.build"):
        solved(gf.tasks.Digits(), 3)
    with pytest.raises(TypeError, match=r"must return a gradflow\.Problem, got 7"):
        solved(lambda seed: 7, 3)


def test_a_number_of_seeds_stands_for_the_first():
    ensemble = solved(bowl, 3)
    assert list(ensemble.members) == [0, 1, 2]
    assert list(ensemble.to_dataframe()["x[2]"]) == list(ensemble["x"][:, 2])
    ax = matplotlib.figure.Figure().subplots()
    assert ensemble.plot("x", ax=ax) is ax


def test_runs_that_recorded_different_things_are_not_put_side_by_side():
    def build(seed):
        return gf.Problem(lambda p, d: jnp.sum(p**2), jnp.ones(2 + seed))

    ensemble = solved_vectors(build)
    with pytest.raises(ValueError, match="seeds 0 and 1 did not record the same: they differ in p"):
        _ = ensemble.record
    same = solved_vectors(lambda seed: build(0))
    assert same["p"].shape == (9, 2, 2)


def solved_vectors(build):
    return gf.solve_ensemble(
        build, (0, 1), t1=1.0, save=gf.Linear(count=9), observables={"p": lambda t, p, d: p}
    )


def test_threads_are_set_as_the_one_that_asks():
    """What a context manager sets holds for its own thread alone, as JAX has it."""
    seen = []

    def build(seed):
        seen.append(threading.current_thread().name)
        return bowl(seed)

    with jax.enable_x64(False):
        ensemble = solved(build, range(4), rtol=1e-4)
    assert ensemble["x"].dtype == np.float32
    assert threading.current_thread().name not in seen
    assert solved(bowl, range(2))["x"].dtype == np.float64


def test_progress_is_told_of_all_seeds_together_by_one_thread_at_a_time():
    reports, inside = [], threading.Lock()

    def progress(report):
        assert inside.acquire(blocking=False)
        reports.append(report)
        inside.release()

    ensemble = solved(bowl, range(6), progress=progress)
    assert not ensemble.failures
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {report.seed for report in reports} == set(range(6))
    total = ensemble.record.stats["gradient_evaluations"]
    assert reports[-1].gradient_evaluations == total


def test_what_is_cancelled_keeps_the_seeds_that_are_done():
    done = []

    def progress(report):
        done.append(report)

    ensemble = solved(
        bowl, range(8), at_once=1, progress=progress, cancelled=lambda: len(done) >= 3
    )
    assert 0 < len(ensemble.members) < 8
    # The first is begun in any case: there is always something to show.
    assert list(solved(bowl, range(8), cancelled=lambda: True).members) == [0]
    assert not ensemble.failures
    assert set(ensemble.whole) <= set(ensemble.members)


def test_an_ensemble_that_ends_between_two_seeds_was_cut_short_all_the_same():
    """No run is told to end, and yet not all are there."""
    at_end = []

    def progress(report):
        at_end.extend([report] * (report.time >= 2.0))

    short = solved(bowl, range(8), at_once=1, progress=progress, cancelled=lambda: bool(at_end))
    assert list(short.whole) == list(short.members) == [0]
    assert short.cancelled
    assert not solved(bowl, range(2)).cancelled


def test_an_interrupt_ends_all_threads():
    def progress(report):
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        solved(bowl, range(50), progress=progress)
    assert threading.active_count() <= before
