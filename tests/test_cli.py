"""The command as its users meet it: what it prints where, its exit codes, and what it leaves."""

import errno
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import CONFIGS, KNOWN, QUICKSTART, SMALL, gradflow, listing
from malformed import GOOD, MALFORMED, Malformed

import gradflow as gf
from gradflow import cli, doctor, experiment
from gradflow.config import Config, load, schema
from gradflow.progress import display
from gradflow.tasks import Digits

ENTRY = [sys.executable, "-m", "gradflow"]


@pytest.fixture(autouse=True)
def _scratch(tmp_path, monkeypatch):
    """An empty directory, no lines that come by the clock, and the precision as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(display, "_LOG_SECONDS", 1e9)
    before = jax.config.read("jax_enable_x64")
    yield
    jax.config.update("jax_enable_x64", before)


def small(*arguments, err=None):
    """Solve the smallest problem, without figures and report unless asked for."""
    plain = "figures=false", "report=false"
    return gradflow("solve", QUICKSTART, *SMALL, *plain, *arguments, err=err)


class Terminal(io.StringIO):
    def isatty(self):
        return True


# Bad input.


@pytest.mark.parametrize("command", ["solve", "validate"])
@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_a_malformed_config_is_told_fault_by_fault(case: Malformed, command, tmp_path):
    path = case.write(tmp_path)
    before = listing(tmp_path)
    done = gradflow(command, path.name, *case.overrides)
    assert (done.code, done.out) == (2, "")
    lines = done.err.splitlines()
    assert len(lines) == len(case.expected), done.err
    for line, (prefix, fragment) in zip(lines, case.expected, strict=True):
        assert line.startswith(prefix.replace("FILE", path.name))
        assert re.match(r"[\w.-]+:\d+:\d+: ", line)
        assert fragment in line
        assert not re.search(r"pydantic|Input should|http|<.*>", line)
    assert listing(tmp_path) == before


FOREIGN = "not overwritten, for {} is not a gradflow run: it has no manifest.json of one; allowed: "


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--output", "full"], "--output:1:1: full exists; allowed: another directory, by --out"),
        (["--output", "full", "--overwrite"], "--output:1:1: " + FOREIGN.format("full")),
        (["--output", "app", "--overwrite"], "--output:1:1: " + FOREIGN.format("app")),
        (["--output", "file"], "--output:1:1: cannot write to file, file exists; allowed: "),
        (["--output", "file/x"], "--output:1:1: cannot write to file/x, not a directory; allowed"),
        (["--output", "/proc/x/y"], "--output:1:1: cannot write to /proc/x/y, no such file or di"),
        (["--output", "x" * 300], f"--output:1:1: cannot write to {'x' * 300}, file name too lo"),
        (["output=full"], "override-1:1:8: output: full exists; allowed: another directory"),
        (["output="], "override-1:1:1: output: runs/good exists; allowed: another directory"),
        ([], "good.yaml:5:9: output: cannot write to file/x, not a directory; allowed: another"),
    ],
    ids=str,
)
def test_an_output_that_cannot_be_used_is_a_located_fault(arguments, told, tmp_path):
    Path("full").mkdir()
    Path("full/notes.md").write_text("mine")
    Path("app").mkdir()
    Path("app/manifest.json").write_text('{"name": "another program", "versions": {"app": 3}}')
    Path("runs/good").mkdir(parents=True)
    Path("runs/good/notes.md").write_text("mine")
    Path("file").write_text("mine")
    Path("good.yaml").write_text(f"{GOOD}output: file/x\n")
    before = listing(tmp_path)
    done = gradflow("solve", "good.yaml", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(told)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Usage: "),
        (["solve"], "Missing argument 'CONFIG'"),
        (["slove", "x.yaml"], "No such command 'slove'"),
        (["solve", "x.yaml", "--outptu", "y"], "No such option"),
        (["plot", "nowhere"], "nowhere is not a gradflow run: it has no manifest.json of one\n"),
    ],
    ids=str,
)
def test_bad_usage(arguments, told):
    done = gradflow(*arguments)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


@pytest.mark.parametrize("platforms", ["nonsense", "cuda"])
def test_a_platform_that_is_not_there(platforms, tmp_path):
    """Both ways in which JAX says so; in processes of their own, for it asks only once."""
    done = subprocess.run(
        [*ENTRY, "solve", QUICKSTART, *SMALL],
        env=os.environ | {"JAX_PLATFORMS": platforms},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, listing(tmp_path)) == (2, "", {})
    assert done.stderr.startswith(f"JAX finds no device for JAX_PLATFORMS={platforms}: ")
    assert done.stderr.count("\n") == 1


def test_more_than_memory_holds(tmp_path):
    done = gradflow("solve", QUICKSTART, "problem.width=2000000000")
    assert (done.code, done.out, listing(tmp_path)) == (1, "", {})
    assert done.err.startswith("not enough memory; make the problem smaller: ")
    assert done.err.count("\n") == 1


# Answers at once.


def test_nothing_heavy_is_imported_for_help():
    script = "import sys, gradflow.cli; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    loaded = set(done.stdout.split())
    assert "click" in loaded
    heavy = {"jax", "numpy", "matplotlib", "pydantic", "rich", "xarray", "yaml", "equinox"}
    assert not loaded & heavy


def test_help_and_version():
    def seconds(command):
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return time.perf_counter() - began, done.stdout

    took, text = min(seconds([*ENTRY, "--help"]) for _ in range(3))
    yardstick, _ = seconds([sys.executable, "-c", "import jax"])
    assert took < yardstick
    assert "Integrate what CONFIG describes" in gradflow("solve", "--help").out
    for command in ("solve", "plot", "validate", "schema", "doctor"):
        assert command in text
        assert gradflow(command, "-h").code == 0
    assert gradflow("--version").out == f"gradflow, version {gf.__version__}\n"


# Runs.


def test_solve_prints_the_path_alone_and_what_came_out_beside():
    done = small()
    assert (done.code, done.out) == (0, "runs/quickstart\n")
    headline, *table = done.err.splitlines()
    assert table[0].startswith("claim ")
    flow = gf.load("runs/quickstart").flow
    assert headline.startswith(f"t = 3, loss {flow['loss'][-1]:.4g}, ")
    for fact in (f"{flow.stats['gradient_evaluations']} gradient evaluations", "T1 ", "compiling"):
        assert fact in headline

    again = small()
    assert again.code == 2
    assert again.err.startswith(f"{QUICKSTART}:2:1: output: runs/quickstart exists; allowed: ")
    assert small("--quiet", "--output", "here/below").err == ""
    assert gf.load("here/below").flow["loss"].tolist() == flow["loss"].tolist()


def test_overwrite_replaces_a_run_and_nothing_else():
    assert small("figures=true", "report=true", "--output", "run").code == 0
    Path("run/notes.md").write_text("mine")
    Path("run/descent-0.nc").write_text("of the run before")
    assert small("--output", "run", "--overwrite", "seed=1").code == 0
    kept = {name for name, content in listing(Path("run")).items() if content is not None}
    assert kept == {
        "claims.json", "config.yaml", "flow-final.npz", "flow.nc", "manifest.json", "notes.md",
        "summary.json",
    }  # fmt: skip
    assert gf.load("run").manifest["seed"] == 1
    assert Path("run/notes.md").read_text() == "mine"


def test_precision_is_set_by_the_command():
    assert small("precision=float32", "--output", "single").code == 0
    assert small("--output", "double").code == 0
    single, double = gf.load("single").flow, gf.load("double").flow
    assert (single["loss"].dtype, double["loss"].dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(single["loss"], double["loss"], rtol=1e-2)


def test_lines_off_a_terminal(monkeypatch):
    monkeypatch.setattr(display, "_LOG_SECONDS", 0.0)
    said = small("--output", "run").err.splitlines()
    lines = said[: next(i for i, line in enumerate(said) if "compiling" in line)]
    assert lines
    for line in lines:
        assert re.fullmatch(r"t = \S+ of 3, loss \S+, step \S+, \d+ gradients", line)
    assert small("--output", "silent", "--quiet").err == ""


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(display, "_LOG_SECONDS", 0.0)
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = small("--output", "a", err=Terminal()).err
    assert "compiling" in coloured
    assert re.search(r"\x1b\[3\dm", coloured)
    assert any("t = 3, loss" in line for line in coloured.splitlines())
    # Drawn over and cleared away, not scrolled.
    assert not re.search(r"^t = .* gradients$", coloured, re.MULTILINE)

    monkeypatch.setenv("NO_COLOR", "1")
    plain = small("--output", "b", err=Terminal()).err
    assert "compiling" in plain
    assert not re.search(r"\x1b\[[\d;]*m", plain)

    assert "compiling" not in small("--output", "c", "--quiet", err=Terminal()).err

    monkeypatch.setenv("TERM", "dumb")
    lines = small("--output", "d", err=Terminal()).err
    assert "\x1b" not in lines
    assert "gradients" in lines


# Failures and interruptions.


def test_a_step_limit_ends_in_3_and_keeps_what_was_computed():
    done = small("flow.max_steps=5", "figures=true", "--output", "run")
    assert (done.code, done.out) == (3, "run\n")
    flow = gf.load("run").flow
    assert flow.result == "step_limit"
    assert flow.stats["accepted"] + flow.stats["rejected"] == 5
    assert 0 < flow.time[-1] == flow.final_time < 3
    assert done.err.startswith(f"failed at t = {flow.final_time:.6g}: ")
    assert "raise max_steps" in done.err
    assert Path("run/figures/loss.png").exists()
    assert "ended" in gf.load("run").manifest


def test_a_loss_that_turns_nan_ends_in_3_and_keeps_what_was_computed(monkeypatch):
    def loss(params, data):
        return 0.5 * params**2 + 1e-3 * jnp.sqrt(params - 0.5)

    monkeypatch.setattr(Digits, "build", lambda self, *keys: gf.Problem(loss, jnp.asarray(1.0)))
    Path("nan.yaml").write_text("problem: {kind: digits}\nflow: {t1: 3, save: {kind: linear}}\n")
    done = gradflow("solve", "nan.yaml")
    assert (done.code, done.out) == (3, "runs/nan\n")
    run = gf.load("runs/nan")
    assert run.flow.final_time == pytest.approx(np.log(2), abs=0.01)
    assert done.err.startswith(f"failed at t = {run.flow.final_time:.6g}: ")
    assert "not finite" in done.err
    assert len(run.flow.time) > 40
    np.testing.assert_allclose(run.flow["loss"], 0.5 * np.exp(-2 * run.flow.time), rtol=0.02)
    assert run.summary["flow"]["result"] in gf.FAILURES
    assert {path.stem for path in Path("runs/nan/figures").iterdir()} == {"loss"}


def test_ctrl_c_during_the_run(monkeypatch):
    """The first report, after some steps, stands for the moment of the signal."""

    def interrupt(self, report):
        if not reports:
            os.kill(os.getpid(), signal.SIGINT)
        reports.append(report)

    reports = []
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(display.Display, "update", interrupt)
    done = small("flow.t1=1e9", "flow.rtol=1e-9", "flow.solver=bosh3", "--output", "run")
    assert (done.code, done.out) == (130, "run\n")
    first, second = done.err.splitlines()
    assert first.startswith("interrupted: ending the run and keeping it")
    flow = gf.load("run").flow
    assert second == (
        f"interrupted at t = {flow.final_time:.6g}; what was computed is kept; go on with: "
        "gradflow resume run"
    )
    assert flow.result == "cancelled"
    assert flow.final_time == reports[-1].time < 1e9
    assert gradflow("plot", "run").code == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_while_the_figures_are_drawn(monkeypatch):
    render = experiment.render

    def interrupt(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return render(*arguments)

    monkeypatch.setattr(experiment, "render", interrupt)
    done = small("figures=true", "--output", "run")
    assert (done.code, done.out) == (130, "run\n")
    assert done.err.splitlines()[-1] == "interrupted when all was computed; the run is whole"
    assert gf.load("run").flow.result == "end_time"
    assert Path("run/figures/response.pdf").exists()


def test_a_second_ctrl_c_quits_at_once_but_not_a_duplicate(monkeypatch):
    def interrupt(self, report):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(display.Display, "update", interrupt)
    assert small("--output", "twice").code == 130
    assert gf.load("twice").flow

    clock = iter(range(0, 100, 2))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    done = small("--output", "later")
    assert (done.code, done.out) == (130, "")
    assert done.err.count("\n") == 1
    assert gf.load("later").trajectories == {}  # nothing to see, but a run


def test_ctrl_c_before_there_is_a_run(monkeypatch, tmp_path):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load", interrupt)
    done = small()
    assert (done.code, done.out, done.err) == (130, "", "interrupted\n")
    assert listing(tmp_path) == {}


def test_a_signal_to_the_process(tmp_path):
    """Sent as soon as the bar shows that it runs, whatever it is doing then."""
    master, slave = pty.openpty()
    arguments = ["flow.t1=1e12", "flow.rtol=1e-12", "flow.solver=bosh3"]
    process = subprocess.Popen(
        [*ENTRY, "solve", QUICKSTART, *SMALL, *arguments, "figures=false"],
        env=os.environ
        | {"TERM": "xterm", "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir},
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    )
    os.close(slave)
    seen, asked = b"", False
    with suppress(OSError):  # the terminal closes as the process ends; full, it would make it wait
        while True:
            seen += os.read(master, 10_000)
            if b"compiling" in seen and not asked:
                process.send_signal(signal.SIGINT)
                asked = True
    os.close(master)
    out, _ = process.communicate()
    assert (process.returncode, out) == (130, "runs/quickstart\n"), seen
    flow = gf.load("runs/quickstart").flow
    assert flow.result == "cancelled"
    assert f"interrupted at t = {flow.final_time:.6g}" in seen.decode()


@pytest.mark.parametrize("file", ["flow.nc", "summary.json", "loss.pdf", "report.html"])
def test_a_full_disk_is_one_line_and_leaves_whole_files(file, monkeypatch):
    replace = os.replace

    def full(source, target):
        if Path(target).name == file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    done = small("figures=true", "report=true", "--output", "run")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert re.match(
        rf"cannot write run/\S*{file}: no space left on device; what was written before is kept$",
        done.err,
    )
    names = [path.name for path in Path("run").rglob("*") if path.is_file()]
    assert "manifest.json" in names
    assert file not in names
    assert not [name for name in names if name.startswith(".")]
    gf.load("run")


# The other commands.


def test_plot_redraws_the_same_without_a_model(monkeypatch):
    assert small("figures=true", "--output", "run").code == 0
    drawn = listing(Path("run/figures"))
    assert len(drawn) >= 8
    for path in Path("run/figures").iterdir():
        path.unlink()
    for task in Config.model_fields["problem"].annotation.__args__:
        monkeypatch.setattr(task, "build", None)
    done = gradflow("plot", "run")
    assert (done.code, done.err) == (0, "")
    assert sorted(done.out.splitlines()) == [f"run/figures/{name}" for name in drawn]
    assert listing(Path("run/figures")) == drawn


def test_plot_tells_what_is_wrong_with_a_run():
    assert small("--output", "run").code == 0
    whole = Path("run/flow.nc").read_bytes()
    Path("run/flow.nc").write_bytes(whole[: len(whole) // 2])
    done = gradflow("plot", "run")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("run/flow.nc is damaged: ")
    Path("run/flow.nc").unlink()
    assert gradflow("plot", "run").err == "run has no flow.nc to draw\n"
    Path("run/flow.nc").write_bytes(whole)
    Path("run/figures").write_text("in the way")
    assert gradflow("plot", "run").code == 1
    Path("run/config.yaml").write_text("problem: 3\n")
    done = gradflow("plot", "run")
    assert done.code == 2
    assert done.err.splitlines()[0].startswith("run/config.yaml:1:1: flow: missing key 'flow'")


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_validate_prints_what_reads_back_as_the_same(config):
    overrides = ("flow.rtol=1e-8", "seed=7")
    done = gradflow("validate", config, *overrides)
    assert (done.code, done.err) == (0, "")
    Path("resolved.yaml").write_text(done.out)
    assert load("resolved.yaml") == load(config, overrides)
    assert load("resolved.yaml").flow.rtol == 1e-8


# A scaling study has no flow of its own; `test_scaling` runs it, and `test_known_flows` the others.
ELSEWHERE = {"widths", *KNOWN}
RUNS = sorted(path for path in CONFIGS.glob("*.yaml") if path.stem not in ELSEWHERE)


@pytest.mark.parametrize("config", RUNS, ids=lambda path: path.stem)
def test_every_shipped_config_runs(config):
    shipped = load(config)
    small = {"digits": ("problem.samples=20",), "next-token": ()}
    size = small.get(shipped.problem.kind, SMALL)
    if shipped.seeds > 1:
        size = (*size, "seeds=2")
    done = gradflow("solve", config, *size, "flow.t1=1", "flow.rtol=1e-2", "flow.max_steps=500")
    assert (done.code, done.out) == (0, f"runs/{config.stem}\n"), done.err
    loss = gf.load(done.out.strip()).flow["loss"]
    assert np.all(loss[-1] < loss[0])
    assert len(list(Path(done.out.strip(), "figures").iterdir())) >= 4


def test_schema():
    assert json.loads(gradflow("schema").out) == json.loads(json.dumps(schema()))


def test_doctor(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(doctor, "_unused_gpu", lambda: None)
    done = gradflow("doctor")
    assert (done.code, done.err) == (0, "")
    lines = dict(line.split(": ", 1) for line in done.out.splitlines())
    assert lines["jax"] == jax.__version__
    assert lines["JAX_PLATFORMS"] == "cpu"
    assert lines["devices"].startswith("cpu")
    assert lines["float64"] == "works"
    assert re.match(r"\d+ processors usable", lines["threads"])
    assert "warning" not in lines


@pytest.mark.parametrize(
    ("chosen", "remedy"), [("cpu", "unset it"), (None, "pip install 'gradflow[gpu]'")]
)
def test_doctor_warns_of_an_unused_gpu(chosen, remedy, monkeypatch):
    monkeypatch.setattr(doctor, "_unused_gpu", lambda: "an NVIDIA GPU")
    if chosen:
        monkeypatch.setenv("JAX_PLATFORMS", chosen)
    else:
        monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    (warning,) = [line for line in doctor.examine() if line.startswith("warning")]
    assert warning.startswith("warning: an NVIDIA GPU is present but unused; ")
    assert warning.endswith(remedy)
    used = SimpleNamespace(platform="gpu", device_kind="NVIDIA H200")
    monkeypatch.setattr(doctor, "devices", lambda: [used])
    lines = list(doctor.examine())
    assert "devices: gpu (NVIDIA H200)" in lines
    assert not any(line.startswith("warning") for line in lines)


def test_doctor_tells_what_is_missing(monkeypatch):
    def refuse():
        raise RuntimeError("no\nbackend")

    monkeypatch.setattr(jax, "devices", refuse)
    monkeypatch.setattr(doctor, "_PACKAGES", ("gradflow", "no-such-package"))
    lines = list(doctor.examine())
    assert "warning: no-such-package is not installed; pip install no-such-package" in lines
    assert lines[-1].startswith("warning: JAX finds no device for JAX_PLATFORMS=")
    assert "no backend" in lines[-1]
