"""Ensembles as one compiled program: each run is the one that it is alone, to rounding."""

import importlib
import re

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow.ensemble.batches import Batches
from gradflow.flow import Lanes

ensemble_solve = importlib.import_module("gradflow.ensemble.solve")

AT_ONCE = 3  # a batch of another size is another program


def loss(params, data):
    fourth = jnp.sum(data["fourth"])
    return 0.5 * data["square"] * params["x"] ** 2 - 0.25 * fourth * params["x"] ** 4


def position(t, params, data):
    return params["x"]


HALF = gf.Event("half", lambda snapshot: snapshot.arrays["x"] - 0.5)


def bowl(seed, square=2.0, fourth=0.0):
    """Starts at 1 + seed; its flow is (1 + seed) exp(-2 t)."""
    return gf.Problem(
        loss,
        {"x": jnp.asarray(1.0 + seed)},
        {"square": jnp.asarray(square), "fourth": jnp.asarray(fourth)},
        events=(HALF,),
    )


def solved(build, seeds, **options):
    options = {
        "t1": 2.0,
        "rtol": 1e-4,
        "solver": "bosh3",
        "observables": {"x": position},
        "save": gf.Linear(count=9),
        "save_each": {"x": gf.Linear(count=5)},
        "stop": gf.Stop(loss=-1e30),
        "batching": "vmap",
        "at_once": AT_ONCE,
    } | options
    return gf.solve_ensemble(build, seeds, **options)


def assert_same(ours, theirs, rtol=1e-10):
    assert list(ours.members) == list(theirs.members)
    assert ours.failures == theirs.failures
    for run, other in zip(ours.members.values(), theirs.members.values(), strict=True):
        assert run.result == other.result
        assert run.final_time == pytest.approx(other.final_time, rel=rtol)
        assert set(run) == set(other)
        for name in run:
            np.testing.assert_allclose(run.times(name), other.times(name), rtol=rtol)
            np.testing.assert_allclose(run[name], other[name], rtol=rtol, atol=1e-14)
        for name, rows in other.crossings.items():
            np.testing.assert_allclose(run.crossings[name], rows, rtol=100 * rtol)
        leaves, others = (jax.tree.leaves(each.final_params) for each in (run, other))
        np.testing.assert_allclose(leaves, others, rtol=rtol)
        for key in ("accepted", "rejected", "gradient_evaluations", "solver"):
            assert run.stats[key] == other.stats[key]
        for leg, another in zip(run.stats["legs"], other.stats["legs"], strict=True):
            assert leg.pop("solver") == another.pop("solver")
            assert leg == pytest.approx(another, rel=rtol)


def test_every_seed_has_the_run_that_it_has_on_a_thread():
    """Seven seeds, three at once; those that reach the loss make room earlier than the others."""
    seeds = (3, 0, 7, 1, 30, 2, 12)
    stop = gf.Stop(loss=0.1)
    ours, theirs = (solved(bowl, seeds, stop=stop, batching=b) for b in ("vmap", "threads"))
    assert_same(ours, theirs)
    results = {seed: run.result for seed, run in ours.members.items()}
    assert results[0] == results[1] == "loss"
    assert results[30] == "end_time"
    assert ours.members[1].crossings["half"][0, 0] == pytest.approx(np.log(4) / 2, rel=1e-3)
    assert ours.members[30].crossings["half"].shape == (0, 2)
    stats = ours.record.stats
    assert stats["wall_seconds"] + stats["compile_seconds"] == ours.wall_seconds
    assert 0 < stats["compile_seconds"] < ours.wall_seconds


def relaxing(seed):
    """y' = -k (y - log(1 + t)) + 1 / (1 + t) with k = 1000 until 1 + seed, then 1/100."""

    return gf.Problem(
        vector_field=stiff_for_a_while,
        params=jnp.asarray([2.0 + seed, 1.5]),
        data=jnp.asarray(1.0 + seed),
    )


def stiff_for_a_while(t, y, until):
    k = jnp.where(t < until, 1000.0, 0.01)
    return -k * (y - jnp.log1p(t)) + 1 / (1 + t)


def test_each_changes_its_solver_when_it_is_time():
    """Which batches it goes through, and beside whom, changes nothing."""
    options = {"t1": 12.0, "rtol": 1e-3, "at_once": 2}
    ours, theirs = (
        gf.solve_ensemble(relaxing, (3, 0, 1), batching=b, **options) for b in ("vmap", "threads")
    )
    # Where it is stiff the errors are little more than rounding, and the steps follow them.
    assert_same(ours, theirs, rtol=1e-4)
    legs = [run.stats["legs"] for run in ours.members.values()]
    assert [len(each) for each in legs] == [3, 3, 3]
    assert len({each[1]["to"] for each in legs}) == 3
    assert ours.record.stats["solver"] == "bosh3 and rkc2"


def test_a_seed_that_fails_is_told_of_and_loses_no_other():
    def build(seed):
        if seed == 5:
            raise RuntimeError("no data for 5")
        if seed == 2:  # infinite in finite time
            return bowl(seed, square=0.0, fourth=1.0)
        return bowl(seed, square=np.nan if seed == 3 else 2.0)

    seeds = (0, 2, 3, 5, 6)
    ours, theirs = (solved(build, seeds, batching=b) for b in ("vmap", "threads"))
    assert list(ours.whole) == [0, 6]
    assert list(ours.failures) == [2, 3, 5]
    assert "no step was small enough" in ours.failures[2]
    assert "not finite at the initial parameters" in ours.failures[3]
    assert_same(ours, theirs)


def test_where_no_seed_comes_to_a_run_its_own_error_surfaces():
    def build(seed):
        raise LookupError(f"nothing for {seed}")

    with pytest.raises(LookupError, match="nothing for 4"):
        solved(build, (4, 5))


def test_progress_is_of_all_seeds_together():
    reports = []
    ensemble = solved(bowl, range(7), progress=reports.append)
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < 0.5
    assert fractions[-1] == 1.0
    assert reports[0].seed in range(AT_ONCE)
    assert reports[0].loss == pytest.approx(ensemble.members[reports[0].seed]["loss"][0], rel=1)
    total = ensemble.record.stats["gradient_evaluations"]
    assert reports[-1].gradient_evaluations == total


def test_what_is_cancelled_keeps_the_seeds_that_have_begun():
    reports = []
    ensemble = solved(bowl, range(7), progress=reports.append, cancelled=lambda: bool(reports))
    assert list(ensemble.members) == list(range(AT_ONCE))
    assert not ensemble.failures
    assert not ensemble.whole
    for seed, run in ensemble.members.items():
        assert run.result == "cancelled"
        assert 0 < run.final_time < 2.0
        assert run.times("x")[-1] == run.final_time
        assert run["x"][-1] == pytest.approx((1 + seed) * np.exp(-2 * run.final_time), rel=1e-3)
    # The first is begun in any case.
    assert list(solved(bowl, range(7), cancelled=lambda: True).members) == [0]


def test_an_interrupt_is_not_a_failure():
    def progress(report):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solved(bowl, range(5), progress=progress)


def test_each_seed_has_the_wall_time_that_is_allowed():
    ensemble = solved(bowl, range(AT_ONCE), stop=gf.Stop(loss=-1e30, wall_seconds=1e-9))
    assert [run.result for run in ensemble.members.values()] == ["wall_time"] * AT_ONCE
    assert all(run.stats["wall_seconds"] > 1e-9 for run in ensemble.members.values())


def other_loss(params, data):
    return loss(params, data)


def misfit(kind):
    """A bowl, but for seed 1 a problem that takes another program."""

    def build(seed):
        problem = bowl(seed, fourth=np.zeros(2) if seed == 1 and kind == "shape" else 0.0)
        if seed == 1 and kind == "structure":
            return gf.Problem(loss, problem.params, problem.data)
        if seed == 1 and kind == "function":
            return gf.Problem(other_loss, problem.params, problem.data, events=(HALF,))
        return problem

    return build


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (
            misfit("shape"),
            {},
            r"seeds 0 and 1 do not fit in one batch: data['fourth'] is float64 of shape () in one, "
            "float64 of shape (2,) in the other; batching='threads' takes any problems",
        ),
        (
            misfit("structure"),
            {},
            "seeds 0 and 1 do not fit in one batch: only one has events[0], and both must have the "
            "same structure; batching",
        ),
        (
            misfit("function"),
            {},
            "seeds 0 and 1 do not fit in one batch: loss is not the same in both, and must be "
            "defined once, outside of build; batching",
        ),
        (bowl, {"certify": True}, "batching = 'vmap': certify reads every run off on its way;"),
        (bowl, {"solver": "kvaerno3"}, "batching = 'vmap': this solver does not count its"),
        (bowl, {"batching": "pmap"}, "batching = 'pmap' must be one of auto, threads, vmap"),
        (bowl, {"at_once": 0}, "at_once = 0 must be 1 at least"),
        (bowl, {"rtol": 2.0}, "rtol = 2.0: "),
        (bowl, {"rtol": 1e-16}, "rtol = 1e-16 is below 2.2e-14, the least that float64"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(build, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as told:
        solved(build, range(3), **options)
    assert "\n" not in str(told.value)


def test_automatic_is_by_what_there_is(monkeypatch):
    """Threads on a CPU; on an accelerator too where one program cannot be."""
    chosen = []

    class Noted(Batches):
        def all(self, seeds):
            chosen.append(seeds)
            return super().all(seeds)

    monkeypatch.setattr(ensemble_solve, "Batches", Noted)
    solved(bowl, (0, 1, 2), batching="auto")
    assert not chosen
    monkeypatch.setattr(ensemble_solve, "_accelerated", lambda: True)
    expected = solved(bowl, (0, 1, 2), batching="threads")
    assert_same(solved(bowl, (0, 1, 2), batching="auto"), expected)
    assert len(chosen) == 1
    assert not ensemble_solve._in_batches("auto", {"certify": True, "solver": "auto", "rtol": 1e-3})
    for solver in ("kvaerno3", diffrax.Kvaerno3()):
        arguments = {"certify": False, "solver": solver, "rtol": 1e-3}
        assert not ensemble_solve._in_batches("auto", arguments)


def test_a_seed_that_does_not_fit_in_runs_on_a_thread(monkeypatch):
    monkeypatch.setattr(ensemble_solve, "_accelerated", lambda: True)
    reports = []
    seeds, build = (0, 1, 2), misfit("function")
    ensemble = solved(build, seeds, batching="auto", progress=reports.append)
    assert list(ensemble.whole) == [0, 1, 2]
    assert_same(ensemble, solved(bowl, seeds, batching="threads"))
    assert reports[-1].fraction == 1.0
    assert reports[-1].seed == 1


def test_where_one_program_fails_threads_go_on(monkeypatch):
    monkeypatch.setattr(ensemble_solve, "_accelerated", lambda: True)

    def advance(lanes):
        raise MemoryError("no room")

    monkeypatch.setattr(Lanes, "advance", advance)
    with pytest.warns(UserWarning, match="one program for all failed with MemoryError: no room"):
        ensemble = solved(bowl, range(3), batching="auto")
    assert list(ensemble.whole) == [0, 1, 2]
    with pytest.raises(MemoryError, match="no room"):
        solved(bowl, range(3))


def test_single_precision():
    def build(seed):
        problem = bowl(seed)
        return gf.Problem(loss, problem.params, problem.data)

    with jax.enable_x64(False):
        ensemble = solved(build, range(AT_ONCE))
    assert ensemble["x"].dtype == np.float32
    exact = np.arange(1, 1 + AT_ONCE) * np.exp(-2 * ensemble.record.times("x"))[:, None]
    np.testing.assert_allclose(ensemble["x"], exact, atol=5e-4)
