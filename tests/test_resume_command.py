"""`gradflow resume` and `solve --resume`: after signals, kills, and whatever else ends a run."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from command import QUICKSTART, SMALL, gradflow, listing

import gradflow as gf
from gradflow import experiment, flow, storage
from gradflow.cli import ending
from gradflow.progress import display

ALONE = ("figures=false", "report=false")
LONG = (*SMALL, *ALONE, "flow.t1=1e3", "flow.rtol=1e-8", "flow.solver=bosh3")
DESCENT = "descent={learning_rates: [0.1, 0.05]}"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def small(*arguments):
    return gradflow("solve", QUICKSTART, *SMALL, *ALONE, *arguments)


def same(run, other):
    """Two stored runs, but for times of the machine."""
    assert {*os.listdir(run)} == {*os.listdir(other)}
    with np.load(f"{run}/flow-final.npz") as a, np.load(f"{other}/flow-final.npz") as b:
        assert list(a) == list(b)
        assert all(a[name].tobytes() == b[name].tobytes() for name in a)
    one, two = gf.load(run), gf.load(other)
    assert one.trajectories.keys() == two.trajectories.keys()
    for name, trajectory in one.trajectories.items():
        for variable in trajectory:
            values = (r.trajectories[name][variable].tobytes() for r in (one, two))
            assert next(values) == next(values), (name, variable)
    assert one.claims == two.claims


def interrupted_at(fraction, number, monkeypatch):
    """A signal once the run is so far."""
    sent = []

    def interrupt(self, report):
        if report.fraction >= fraction and not sent:
            sent.append(report)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(display.Display, "update", interrupt)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Runs that nothing has cut: a certified flow with descents, and three seeds."""
    home = tmp_path_factory.mktemp("alone")
    for name, options in KINDS.items():
        arguments = (*SMALL, *ALONE, *options)
        assert gradflow("solve", QUICKSTART, *arguments, "--output", home / name).code == 0
    return home


KINDS = {
    "descents": (DESCENT, "flow.certify=true", "polish=true"),
    "seeds": ("seeds=3", "flow.rtol=1e-6"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_and_then_on(kind, number, alone, monkeypatch):
    with monkeypatch.context() as then:
        interrupted_at(0.4, number, then)
        done = small(*KINDS[kind], "--output", "run")
    assert (done.code, done.out) == (130, "run\n")
    assert done.err.splitlines()[-1].endswith("is kept; go on with: gradflow resume run")
    manifest = gf.load("run").manifest
    assert "interrupted" in manifest
    assert "ended" not in manifest
    done = gradflow("resume", "run")
    assert (done.code, done.out) == (0, "run\n")
    same("run", alone / kind)
    manifest = gf.load("run").manifest
    assert len(manifest["resumed"]) == 1
    assert {"began", "ended"} <= manifest.keys()
    # There is nothing left to do, and that is no fault.
    before = listing(Path("run"))
    for again in (gradflow("resume", "run"), small(*KINDS[kind], "--output", "run", "--resume")):
        assert (again.code, again.out) == (0, "run\n")
        assert again.err == "run has ended; there is nothing left to do\n"
    assert listing(Path("run")) == before


def test_a_signal_while_the_critical_point_is_sought(alone, monkeypatch):
    """And while nobody reads stderr any more, as when the Ctrl-C has ended what reads it too."""
    search = experiment.polish

    def interrupt(*arguments, **options):
        with monkeypatch.context() as then:
            then.setattr(ending, "say", gone)
            os.kill(os.getpid(), signal.SIGINT)
        return search(*arguments, **options)

    def gone(text):
        raise BrokenPipeError(errno.EPIPE, text)

    with monkeypatch.context() as then:
        then.setattr(experiment, "polish", interrupt)
        done = small(*KINDS["descents"], "--output", "run")
    assert done.code == 130
    assert done.err.splitlines()[-1].endswith("is kept; go on with: gradflow resume run")
    assert gradflow("resume", "run").code == 0
    same("run", alone / "descents")


def test_killed_by_sigkill(tmp_path):
    """A process that is given no moment: twice, once there is a state, then left alone."""
    arguments = [*LONG, "checkpoint={save: {kind: logarithmic, count: 60}}"]
    assert gradflow("solve", QUICKSTART, *arguments, "--output", "alone").code == 0
    command = [sys.executable, "-m", "gradflow", "solve", QUICKSTART, *arguments]
    cache = {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    seen = 0
    for _ in range(2):
        process = subprocess.Popen(
            [*command, "--output", "run", "--resume"],
            env=os.environ | cache,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            states = [int(path.stem) for path in Path("run/checkpoints").glob("[0-9]*[0-9].npz")]
            if max(states, default=0) > seen + 3:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it had ended"
        seen = max(int(path.stem) for path in Path("run/checkpoints").glob("[0-9]*[0-9].npz"))
        # What it left can be read, drawn and put on a page.
        half = gf.load("run").flow
        assert half.result == "unfinished"
        whole = gf.load("alone").flow
        rows = len(half.time)
        assert rows > 0
        assert half["loss"].tobytes() == whole["loss"][:rows].tobytes()
        assert gradflow("report", "run").code == gradflow("plot", "run").code == 0
    assert gradflow("resume", "run").code == 0
    shutil.rmtree("run/figures")  # of half the run, drawn above
    same("run", "alone")


def test_resume_begins_what_is_not_there(alone):
    done = small(*KINDS["descents"], "--output", "run", "--resume")
    assert done.code == 0
    same("run", alone / "descents")


def cut_short(*options, monkeypatch):
    with monkeypatch.context() as then:
        interrupted_at(0.0, signal.SIGTERM, then)
        assert small(*options, "--output", "run").code == 130


def test_a_configuration_that_has_changed_is_refused_by_its_keys(monkeypatch):
    cut_short("flow.rtol=1e-8", monkeypatch=monkeypatch)
    before = listing(Path("run"))
    done = small("flow.rtol=1e-7", "seed=4", "--output", "run", "--resume")
    assert (done.code, done.out) == (2, "")
    lines = done.err.splitlines()
    assert len(lines) == 2
    way = "when the run was begun; allowed: as it was, or another directory"
    assert any(f"flow.rtol: is 1e-07 and was 1e-08 {way}" in line for line in lines)
    assert any(f"seed: is 4 and was 0 {way}" in line for line in lines)
    # The run's own file, by hand.
    config = Path("run/config.yaml")
    config.write_text(config.read_text().replace("width: 4", "width: 5"))
    done = gradflow("resume", "run")
    assert done.code == 2
    assert done.err.startswith("run/config.yaml:")
    assert "problem.width: is 5 and was 4" in done.err
    config.write_bytes(before["config.yaml"])
    assert listing(Path("run")) == before
    # What changes no number may be changed.
    done = small(
        "flow.rtol=1e-8", "report=true", "checkpoint.keep=1", "--output", "run", "--resume"
    )
    assert done.code == 0
    assert Path("run/report.html").exists()


def test_a_problem_of_ones_own_that_has_changed_is_refused(monkeypatch):
    Path("mine.py").write_text(
        "import gradflow as gf, optax\nmake = lambda: gf.Problem(optax.l2_loss, 1.0, 0.0)\n"
    )
    Path("mine.yaml").write_text("problem: {kind: python, target: 'mine.py:make'}\nflow: {t1: 9}\n")
    with monkeypatch.context() as then:
        interrupted_at(0.0, signal.SIGTERM, then)
        assert gradflow("solve", "mine.yaml", *ALONE, "--output", "run").code == 130
    Path("mine.py").write_text(Path("mine.py").read_text().replace("1.0", "2.0"))
    done = gradflow("solve", "mine.yaml", *ALONE, "--output", "run", "--resume")
    assert done.code == 2
    assert "problem.target: the file is not what it was when the run was begun" in done.err
    done = gradflow("resume", "run")  # which has its own copy
    assert done.code == 0
    assert gf.load("run").flow["loss"][0] == 0.5
    assert gf.load("run").manifest["problem"] == f"{Path.cwd()}/mine.py:make"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("resume", "gone"), "gone is not a gradflow run: it has no manifest.json of one"),
        (("resume",), "Missing argument 'DIR'"),
        (
            ("solve", QUICKSTART, "--resume", "--overwrite"),
            "--resume goes on with a run and --overwrite replaces it; allowed: one of them",
        ),
    ],
)
def test_bad_usage(arguments, told):
    done = gradflow(*arguments)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert not os.listdir()


def test_what_cannot_go_on_says_so(tmp_path):
    storage.create(tmp_path / "run", {"versions": {"gradflow": "0"}}, overwrite=False)
    done = gradflow("resume", "run")
    assert done.code == 2
    assert done.err == "run was cut off before it had begun: run it again, with --overwrite\n"
    shutil.copy(QUICKSTART, "run/config.yaml")
    done = gradflow("resume", "run")
    assert done.code == 2
    assert "kept nothing to go on from; allowed: --overwrite, to run it anew" in done.err


def test_two_processes_on_one_directory(monkeypatch):
    """The second is refused, whatever it wants there."""
    cut_short(monkeypatch=monkeypatch)
    before = listing(Path("run"))
    with storage.lock(Path("run"), overwrite=True):
        for done in (
            gradflow("resume", "run"),
            small("--output", "run", "--resume"),
            small("--output", "run", "--overwrite"),
        ):
            assert (done.code, done.out) == (2, "")
            assert "run is in use: another process is at work on it" in done.err
    assert listing(Path("run")) == before


# Faults.


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(alone, monkeypatch):
    """And where that is damaged too the run begins anew; its bits are the same."""
    often = "checkpoint={save: {kind: linear, count: 7}, keep: 3}"
    cut_short(*KINDS["descents"], often, "flow.t1=3", monkeypatch=monkeypatch)
    with monkeypatch.context() as then:
        interrupted_at(0.6, signal.SIGTERM, then)
        assert gradflow("resume", "run").code == 130
    states = sorted(Path("run/checkpoints").glob("[0-9]*[0-9].npz"))
    assert len(states) >= 2
    states[-1].write_bytes(states[-1].read_bytes()[:-1000])
    shutil.copytree("run", "worse")
    done = gradflow("resume", "run")
    assert done.code == 0
    (line,) = [line for line in done.err.splitlines() if "is damaged" in line]
    assert line.startswith(f"warning: {states[-1]} is damaged: ")
    assert line.endswith("; going back to the one before it")
    same("run", alone / "descents")
    for state in Path("worse/checkpoints").glob("[0-9]*[0-9].npz"):
        state.write_bytes(b"")
    done = gradflow("resume", "worse")
    assert done.code == 0
    assert "no other is left, so the run begins anew" in done.err
    same("worse", alone / "descents")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_fills_up_and_is_emptied(number, alone, monkeypatch):
    """Checkpoints fail with a line each, the run goes on; its end is told, and can be had again."""
    replace = os.replace
    full = []

    def no_room(source, target):
        if full:
            raise OSError(number, os.strerror(number))
        replace(source, target)

    def fill(self, report):
        if report.fraction > 0.3:
            full.append(True)

    often = "checkpoint={save: {kind: linear, count: 7}}"
    with monkeypatch.context() as then:
        then.setattr(os, "replace", no_room)
        then.setattr(display.Display, "update", fill)
        done = small(*KINDS["descents"], often, "--output", "run")
    assert (done.code, done.out) == (1, "")
    reason = os.strerror(number).lower()
    *warned, last = done.err.splitlines()
    assert last == f"cannot write run/flow.nc: {reason}; what was written before is kept"
    assert warned
    assert all("cannot write the checkpoint run/checkpoints/" in line for line in warned)
    assert gf.load("run").flow.result == "unfinished"
    assert gradflow("report", "run").code == 0
    done = gradflow("resume", "run")
    assert done.code == 0
    same("run", alone / "descents")


def test_a_directory_that_cannot_be_written(monkeypatch):
    """As one that is mounted read-only; an administrator's own may be written whatever it says."""

    def refused(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refused)
    done = small("--output", "run")
    assert (done.code, done.out) == (2, "")
    assert "cannot write to run, read-only file system; allowed: another directory" in done.err
    assert not os.listdir()


def problem_file(loss):
    Path("mine.py").write_text(
        "import jax.numpy as jnp, gradflow as gf\n"
        f"def loss(w, data):\n    return {loss}\n"
        "make = lambda: gf.Problem(loss, jnp.asarray(1.0))\n"
    )
    Path("mine.yaml").write_text(
        "problem: {kind: python, target: 'mine.py:make'}\n"
        "flow: {t1: 4, rtol: 1.0e-6, save: {kind: linear, count: 41}}\n"
    )
    return gradflow("solve", "mine.yaml", *ALONE, "--output", "run")


# The flow of -w is w = 1 + t.
@pytest.mark.parametrize(
    ("loss", "at", "result"),
    [
        ("jnp.where(w > 3, jnp.nan, -w)", 2.0, "step_underflow"),  # NaN at a chosen time
        ("jnp.where(w > 3, jnp.inf, -w)", 2.0, "step_underflow"),
        ("2 * jnp.sqrt(4 - w)", 2 * 3**0.5, "step_underflow"),  # its slope has no bound
        ("jnp.log(w - 1)", 0.0, "not_finite"),
    ],
)
def test_numerics_that_fail(loss, at, result):
    done = problem_file(loss)
    run = gf.load("run")
    assert done.code == 3
    told = [line for line in done.err.splitlines() if line.startswith("failed at t = ")]
    assert told == [
        f"failed at t = {run.flow.final_time:.6g}: {flow.RESULTS[result]}; what was computed is "
        "kept"
    ]
    assert run.flow.result == result
    assert run.flow.final_time == pytest.approx(at, abs=1e-3)
    if result != "not_finite":
        assert len(run.flow.time) >= 10
        assert np.isfinite(run.flow["loss"]).all()
    # There is nothing that going on could do.
    done = gradflow("resume", "run")
    assert done.code == 3
    assert done.err.endswith(f"there is nothing left to do: it failed with {result}\n")
    assert gradflow("report", "run").code == 0


def test_memory_that_is_short_in_the_middle(alone, monkeypatch):
    """What was kept before is left to go on from, where there is more of it."""
    often = "checkpoint={save: {kind: linear, count: 7}}"

    def too_much(self, report):
        if report.fraction > 0.5:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 TB")

    with monkeypatch.context() as then:
        then.setattr(display.Display, "update", too_much)
        done = small(*KINDS["descents"], often, "--output", "run")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith("not enough memory; make the problem smaller: ")
    assert gf.load("run").flow.result == "unfinished"
    assert gradflow("resume", "run").code == 0
    same("run", alone / "descents")


def test_other_versions_are_told_of(monkeypatch):
    cut_short(monkeypatch=monkeypatch)
    manifest = json.loads(Path("run/manifest.json").read_text())
    manifest["versions"]["jax"] = "0.1"
    storage.write_json(Path("run/manifest.json"), manifest)
    done = gradflow("resume", "run")
    assert done.code == 0
    assert f"warning: jax is {jax.__version__} and was 0.1: what was computed before" in done.err


def test_a_scaling_study_goes_on(monkeypatch):
    study = (
        "problem={kind: coupled, neurons: 4, width: 4}", "flow={t1: 0.5, rtol: 1e-3}", "seeds=2",
        "scaling={vary: {width: [4, 8, 16]}}",
    )  # fmt: skip
    config = Path("study.yaml")
    config.write_text("problem: {kind: coupled, neurons: 4}\nflow: {t1: 0.5}\n")
    assert gradflow("solve", config, *study, *ALONE, "--output", "alone").code == 0
    with monkeypatch.context() as then:
        interrupted_at(0.5, signal.SIGTERM, then)
        done = gradflow("solve", config, *study, *ALONE, "--output", "run")
    assert done.code == 130
    assert "points; these are kept; go on with: gradflow resume run" in done.err
    assert gradflow("resume", "run").code == 0
    found, expected = (gf.load(run).scaling for run in ("run", "alone"))
    for name in expected:
        assert found[name].tobytes() == expected[name].tobytes()
