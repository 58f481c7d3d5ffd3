"""Sweeps on real workers: what is run, what is not run again, and what becomes of failures."""

import socket
from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
from command import gradflow
from distributed.comm.core import CommClosedError

import gradflow as gf
from gradflow import storage, sweep
from gradflow.config import load
from gradflow.sweep import cluster, worker
from gradflow.sweep.point import place, run_point

# Every build leaves a line, so that what was run can be counted; L = |w|^2 / 2 falls as exp(-2t).
PROBLEM = """
import os, signal
from pathlib import Path
import jax, jax.numpy as jnp
import gradflow as gf

HERE = Path({folder!r})

def watch_checkpoints(once):
    # The first process ends with its second state; the next says whether it goes on from one.
    keep, begin = gf.Checkpoints.keep, gf.Checkpoints.begin

    def keep_and_die(self, *args, **kwargs):
        keep(self, *args, **kwargs)
        if self.number == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def begin_and_tell(self, *args, **kwargs):
        found = begin(self, *args, **kwargs)
        with open(HERE / "log", "a") as file:
            file.write("anew\\n" if found is None else f"from-{{self.number}}\\n")
        gf.Checkpoints.begin = begin
        return found

    if once:
        gf.Checkpoints.keep = keep_and_die
    else:
        gf.Checkpoints.begin = begin_and_tell

def make(key, action="run"):
    def first():
        before = log.read_text().split() if log.exists() else []
        return before.count(action) == 0

    log = HERE / "log"
    once = first()
    with open(log, "a") as file:
        file.write(f"{{action}}\\n")
    if action == "die-midway":
        watch_checkpoints(once)
    if action == "die" or (action == "die-once" and once):
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "raise" and not (HERE / "mended").exists():
        raise ValueError("no such model")
    loss = lambda w, data: 0.5 * jnp.sum(w**2) * (1.0 if action != "blow-up" else jnp.inf)
    return gf.Problem(loss, jax.random.normal(key, (3,)), None)
"""
CONFIG = """
problem:
  kind: python
  target: own.py:make
  args: {action: {sweep: [run, blow-up, die-once, die-midway, die, raise]}}
flow: {t1: 2, rtol: 1e-3, solver: bosh3, save: {kind: linear, count: 5}}
checkpoint: {save: {kind: linear, count: 4}}
"""
ACTIONS = ("run", "blow-up", "die-once", "die-midway", "die", "raise")


def log(folder):
    return Counter((folder / "log").read_text().split())


def listed(folder):
    """Every file of the points, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("sweep/points/*/*")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(PROBLEM.format(folder=str(folder)))
    (folder / "grid.yaml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def broken_off(folder):
    """The first command: ended from outside when one point was there.

    Another cluster has the port where Dask would have its HTTP server.
    """
    told = []
    with socket.socket() as other:
        with suppress(OSError):  # there is one
            other.bind(("127.0.0.1", 8787))
            other.listen()
        outcome = sweep.run(
            sweep.plan(folder / "grid.yaml"),
            folder / "sweep",
            workers=sweep.Workers(1),
            progress=told.append,
            cancelled=lambda: any(standing.done for standing in told),
        )
    return outcome, log(folder)


@pytest.fixture(scope="module")
def finished(folder, broken_off):
    """The second: the same again, to its end; one worker, so that each point has its turn."""
    before, patched = listed(folder), pytest.MonkeyPatch()
    patched.setitem(cluster._CONFIG, "distributed.scheduler.allowed-failures", 1)
    done = gradflow("sweep", folder / "grid.yaml", "--output", folder / "sweep", "--workers", 1)
    patched.undo()
    return done, before, log(folder)


def test_a_sweep_that_is_ended_keeps_what_is_there(broken_off, folder):
    outcome, ran = broken_off
    assert outcome.cancelled
    assert outcome.standing.done == 1
    assert outcome.standing.left == 5
    assert ran["run"] == 1
    assert ran["die"] == ran["raise"] == 0
    assert outcome.record["result"].tolist()[:1] == ["end_time"]


def test_the_same_again_runs_what_is_missing_and_failures_lose_nothing(finished, folder):
    done, before, ran = finished
    assert done.code == 3
    assert done.out == f"{folder / 'sweep'}\n"
    kept = [path for path, at in before.items() if listed(folder).get(path) == at]
    assert any(path.name == storage.FLOW for path in kept)
    assert ran["run"] == 1
    assert ran["die"] == 2  # with the worker, and with that which replaced it
    assert ran["raise"] == 1
    record = gf.load(folder / "sweep").sweep
    results = dict(zip(ACTIONS, record["result"], strict=True))
    assert results == {
        "run": "end_time",
        "blow-up": "not_finite",
        "die-once": "end_time",
        "die-midway": "end_time",
        "die": "error",
        "raise": "error",
    }
    errors = dict(zip(ACTIONS, record["failure"], strict=True))
    assert errors["run"] == errors["die-once"] == errors["die-midway"] == ""
    assert errors["blow-up"].startswith("at t = 0: ")
    assert "own.py:44: in make: ValueError: no such model" in errors["raise"]
    assert errors["die"].startswith("its process was killed every time")
    for error in filter(None, errors.values()):
        assert f"1 point: {error}" in done.err
    assert "3 of 6 points done, 3 failed" in done.err


def test_the_record_has_the_numbers_of_every_run(finished, folder):
    data = gf.load(folder / "sweep").sweep.to_xarray()
    assert data.sizes["action"] == 6
    for action in ("run", "die-once", "die-midway"):
        loss = data["loss"].sel(action=action)
        np.testing.assert_allclose(loss, loss[0] * np.exp(-2 * data.time), rtol=1e-2)
        np.testing.assert_array_equal(data["final_loss"].sel(action=action), loss[-1])
    for action in ("die", "raise"):
        assert np.isnan(data["loss"].sel(action=action)).all()
        assert np.isnan(data["final_loss"].sel(action=action))
    assert data["gradient_evaluations"].sel(action="run") == data["gradient_evaluations"].sel(
        action="die-once"
    )


def test_a_point_whose_process_was_killed_goes_on_from_its_last_state_to_the_same_bits(
    finished, folder
):
    _, _, ran = finished
    assert ran["die-midway"] == 2
    assert ran["from-2"] == 1
    assert ran["anew"] == 0
    data = gf.load(folder / "sweep").sweep.to_xarray()
    for name in ("loss", "final_loss", "gradient_evaluations", "accepted"):
        one, other = (data[name].sel(action=action) for action in ("run", "die-midway"))
        np.testing.assert_array_equal(one, other)


def test_nothing_is_left_beside_the_points(finished, folder):
    for run in (folder / "sweep").glob("points/*"):
        assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_a_whole_sweep_starts_nobody(finished, folder, monkeypatch):
    monkeypatch.setattr(cluster.Workers, "client", None)
    before, ran = listed(folder), log(folder)
    again = gradflow("sweep", folder / "sweep" / "config.yaml", "--output", folder / "sweep")
    assert again.code == 3
    assert (listed(folder), log(folder)) == (before, ran)


def test_a_sweep_that_has_grown_runs_what_is_new_and_what_is_to_be_tried_again(finished, folder):
    """And a worker changes its precision between points."""
    before, ran = listed(folder), log(folder)
    (folder / "mended").touch()
    done = gradflow(
        *("sweep", folder / "grid.yaml", "--output", folder / "sweep", "--workers", 1, "--retry"),
        *("--quiet", "problem.args.action={sweep: [run, raise]}"),
        "precision={sweep: [float32, float64]}",
    )
    assert (done.code, done.err) == (0, "")
    assert log(folder) - ran == Counter({"run": 1, "raise": 2})
    run = gf.load(folder / "sweep")
    assert run.summary["sweep"]["done"] == 4
    kept = [path for path, at in before.items() if listed(folder).get(path) == at]
    assert any(path.name == storage.FLOW for path in kept)
    # The same bits in one precision, whatever the worker had run before.
    finals: dict[str, list[np.ndarray]] = {"float32": [], "float64": []}
    for path in (folder / "sweep").glob(f"points/*/{storage.FINAL}"):
        config = load(path.with_name(storage.CONFIG))
        if config.problem.args["action"] != "blow-up":
            finals[config.precision] += np.load(path).values()
    assert [len(found) for found in finals.values()] == [2, 4]
    for precision, found in finals.items():
        assert {final.dtype.name for final in found} == {precision}
        assert len({final.tobytes() for final in found}) == 1


def test_plot_and_report_know_a_sweep(finished, folder):
    report = gradflow("report", folder / "sweep")
    assert report.code == 0
    page = Path(report.out.strip()).read_text(encoding="utf-8")
    assert "A sweep over action" in page
    assert "gradflow sweep config.yaml" in page
    assert gradflow("plot", folder / "sweep").code == 0


def test_a_second_sweep_on_a_directory_is_refused(finished, folder):
    before = listed(folder)
    with storage.lock(folder / "sweep", overwrite=True):
        done = gradflow("sweep", folder / "grid.yaml", "--output", folder / "sweep")
    assert (done.code, done.out) == (2, "")
    assert "sweep is in use: another process is at work on it" in done.err
    assert listed(folder) == before


def test_a_sweep_leaves_alone_what_a_point_is_writing(finished, folder):
    """A worker of a scheduler goes on for a while after the sweep that it worked for was killed."""
    (point, *_) = (folder / "sweep" / "points").iterdir()
    with storage.lock(point, overwrite=True):
        for home in (point, point.parent):
            (home / ".half.nc.123").touch()
        with storage.lock(folder / "sweep", overwrite=True):
            assert (point / ".half.nc.123").exists()
            assert not (point.parent / ".half.nc.123").exists()
        (point / ".half.nc.123").unlink()


def test_a_scheduler_that_goes_is_told_in_one_line(folder, tmp_path, monkeypatch):
    class Gone:
        def nthreads(self):
            raise CommClosedError("in <TCP (closed)>: connection reset by peer")

    monkeypatch.setattr(cluster.Workers, "client", lambda self: nullcontext(Gone()))
    done = gradflow("sweep", folder / "grid.yaml", "--output", tmp_path / "gone", "--quiet")
    told = "the scheduler has gone; the same command again goes on from here\n"
    assert (done.code, done.out, done.err) == (1, "", told)


# Points.

ONE = """
problem: {kind: python, target: own.py:make}
flow: {t1: 1, rtol: 1e-2, solver: bosh3, save: {kind: linear, count: 2}}
seed: {sweep: [1]}
"""


def test_a_point_that_is_damaged_is_run_anew_and_changed_code_is_no_part_of_it(tmp_path):
    (tmp_path / "own.py").write_text(PROBLEM.format(folder=str(tmp_path)))
    (tmp_path / "one.yaml").write_text(ONE)
    (point,) = sweep.plan(tmp_path / "one.yaml").points
    content, at = point.config.model_dump(mode="json"), place(tmp_path, point.key)
    assert run_point(content, at, "") == sweep.Status(done=True)
    (at / storage.SUMMARY).write_text("{")
    assert sweep.status(at) == sweep.Status()
    assert run_point(content, at, "") == sweep.Status(done=True)
    (at / storage.SUMMARY).write_text("{")
    (tmp_path / "own.py").write_text("make = 1")
    told = f"{tmp_path / 'own.py'} was changed after the sweep had begun; run it again"
    assert run_point(content, at, "") == sweep.Status(error=told)
    assert log(tmp_path) == Counter({"run": 2})


# Workers.


def test_a_worker_keeps_to_its_share_of_the_machine(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_foo=1")
    found = worker.environment(1, "2")
    assert found["NPROC"] == found["OMP_NUM_THREADS"] == "1"
    assert found["XLA_FLAGS"] == "--xla_foo=1 --xla_cpu_multi_thread_eigen=false"
    assert found["CUDA_VISIBLE_DEVICES"] == "2"
    assert "XLA_FLAGS" not in worker.environment(4)


@pytest.mark.parametrize(
    ("platforms", "visible", "gpus"),
    [("", "0,3", ["0", "3"]), ("cuda,cpu", "1", ["1"]), ("", "", []), ("cpu", "0,1", [])],
)
def test_there_is_a_process_for_every_gpu_that_jax_would_find(
    platforms, visible, gpus, monkeypatch
):
    monkeypatch.setattr(cluster, "find_spec", lambda name: name == "jax_cuda12_plugin")
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cluster._gpus() == gpus
