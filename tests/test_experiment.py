"""From a configuration to everything that a stored run holds."""

import json
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray
from command import QUICKSTART, SMALL, gradflow, listing

import gradflow as gf
from gradflow import experiment, flow, manifest
from gradflow.config import dump, load
from gradflow.tasks import Digits

OVERRIDES = (*SMALL, "flow.save_each.test_loss={kind: explicit, times: [0, 0.5, 3]}", "seed=3")
CLASSES = ["both", "first", "second", "neither"]
WORDS = [1, 2, 3]
# Of each variable in flow.nc the axes beside time, and their labels.
VARIABLES = {
    "loss": {},
    "grad_norm": {},
    "distance": {},
    "dissipated": {},
    "energy_residual": {},
    "class_loss": {"class": CLASSES},
    "class_gradient": {"class": CLASSES},
    "attention_score": {"key": WORDS, "query": WORDS},
    "value_correlation": {"word": WORDS, "other": WORDS},
    "response": {"word": WORDS},
    "min_margin": {},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small co-occurrence run by the command."""
    directory = tmp_path_factory.mktemp("runs") / "cooccurrence"
    assert gradflow("solve", QUICKSTART, *OVERRIDES, "--output", directory).code == 0
    return directory


def test_the_files_of_a_run(run):
    files = {name for name, content in listing(run).items() if content is not None}
    figures = {
        f"figures/{name}.{kind}"
        for name in ("attention", "loss", "response", "balance")
        for kind in ("png", "pdf")
    }
    assert files >= figures
    assert files - {name for name in files if name.startswith("figures/")} == {
        "config.yaml", "manifest.json", "flow.nc", "summary.json", "claims.json", "flow-final.npz",
        "report.html",
    }  # fmt: skip
    assert (run / "figures/loss.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "figures/loss.pdf").read_bytes().startswith(b"%PDF")


def test_the_config_of_a_run_is_the_one_that_was_meant(run):
    meant = load(QUICKSTART, OVERRIDES)
    assert load(run / "config.yaml") == meant
    assert (run / "config.yaml").read_text() == dump(meant)


def test_the_report_is_the_one_that_the_stored_run_has(run):
    page = (run / "report.html").read_bytes()
    assert page.count(b"<svg") == len(list(run.glob("figures/*.png"))) == 4
    done = gradflow("report", run)
    assert (done.code, done.out) == (0, f"{run}/report.html\n")
    assert (run / "report.html").read_bytes() == page


def test_the_manifest(run):
    manifest = json.loads((run / "manifest.json").read_text())
    assert set(manifest) == {
        "command", "versions", "device", "machine", "precision", "seed", "commit", "began", "ended",
        "config",
    }  # fmt: skip
    assert manifest["command"].startswith("gradflow")
    assert manifest["versions"]["gradflow"] == gf.__version__
    assert manifest["versions"]["jax"] == jax.__version__
    assert manifest["versions"]["diffrax"] == version("diffrax")
    assert manifest["device"]["platform"] == jax.devices()[0].platform
    assert (manifest["precision"], manifest["seed"]) == ("float64", 3)
    began, ended = (datetime.fromisoformat(manifest[key]) for key in ("began", "ended"))
    assert began <= ended
    assert began.tzinfo is not None


def test_the_netcdf_file(run):
    with xarray.open_dataset(run / "flow.nc") as dataset:
        for name, axes in VARIABLES.items():
            assert dataset[name].dims == ("time", *axes), name
            assert dataset[name].dtype == np.float64
            assert dataset[name].attrs["long_name"]
            assert dataset[name].attrs["units"] == "1"
            for axis, labels in axes.items():
                assert dataset[axis].values.tolist() == labels
        assert dataset["time"].values.tolist() == np.linspace(0, 3, 20).tolist()
        assert dataset["test_loss"].dims == ("time_test_loss",)
        assert dataset["time_test_loss"].values.tolist() == [0, 0.5, 3]
        assert set(dataset.data_vars) >= {*VARIABLES, "test_loss"}
        assert np.isfinite(dataset["loss"]).all()


def test_the_final_parameters_are_those_of_the_last_row(run):
    series = gf.load(run).flow
    with np.load(run / "flow-final.npz") as final:
        assert {"w", "w_v", "w_k", "w_q"} <= set(final)
        first = final["w_k"][:, :3], final["w_q"][:, :3], final["w_v"][:, :3]
    keys, queries, values = first
    np.testing.assert_allclose(keys.T @ queries, series["attention_score"][-1], rtol=1e-10)
    np.testing.assert_allclose(values.T @ values, series["value_correlation"][-1], rtol=1e-10)


def test_the_summary(run):
    summary = json.loads((run / "summary.json").read_text())
    series = gf.load(run).flow
    assert set(summary) == {"flow", "phases", "invariants"}
    assert set(summary["flow"]) == {
        "t1", "loss", "gradient_evaluations", "accepted", "rejected", "solver", "wall_seconds",
        "compile_seconds", "result",
    }  # fmt: skip
    assert summary["flow"]["t1"] == series.final_time == 3
    assert summary["flow"]["loss"] == series["loss"][-1]
    assert summary["flow"]["result"] == "end_time"
    headlines = {name: value for name, value in series.stats.items() if name != "legs"}
    for name, value in headlines.items():
        assert summary["flow"][name] == value
    assert set(summary["phases"]) == {"T_half", "T1"}
    assert set(summary["invariants"]) == {"energy_identity", "balance_mlp", "balance_attention"}
    assert all(0 <= value < 1e-2 for value in summary["invariants"].values())


def test_a_part_that_has_nothing_to_say_is_absent(run, tmp_path):
    one_row = gradflow(
        "solve", QUICKSTART, *SMALL, "flow.save={kind: explicit, times: [0]}",
        "--output", tmp_path / "start",
    )  # fmt: skip
    assert one_row.code == 0
    assert "energy_identity" not in gf.load(tmp_path / "start").summary["invariants"]
    assert set(experiment.summarise(Digits(), experiment.Outcome(gf.load(run).flow, None))) == {
        "flow",
        "invariants",
    }


def test_from_python_with_progress_and_without_figures(tmp_path):
    reports = []
    config = load(QUICKSTART, (*SMALL, "figures=false"))
    outcome = experiment.run(config, tmp_path / "run", progress=reports.append)
    assert outcome.comparison is None
    trajectory = outcome.flow
    assert trajectory.final_params.w.shape == (4, 4)
    assert reports[-1].time == trajectory.final_time == reports[-1].t1 == 3
    assert reports[-1].gradient_evaluations == trajectory.stats["gradient_evaluations"]
    assert not (tmp_path / "run/figures").exists()
    assert "<svg" not in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    stored = gf.load(tmp_path / "run").flow
    assert stored.stats == trajectory.stats
    for name in trajectory:
        np.testing.assert_array_equal(stored[name], trajectory[name])
    for name, rows in trajectory.crossings.items():
        np.testing.assert_array_equal(stored.crossings[name], rows)
    assert config.problem.phases(stored) == config.problem.phases(trajectory)


@pytest.mark.parametrize(
    ("message", "error", "told"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory\nat line 3", MemoryError, "^RESOURCE.* memory$"),
        ("INTERNAL: something else", jax.errors.JaxRuntimeError, "INTERNAL"),
    ],
)
def test_a_device_without_memory_left(message, error, told, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(flow, "solve", fail)
    with pytest.raises(error, match=told):
        experiment.run(load(QUICKSTART, SMALL), tmp_path / "run")
    assert gf.load(tmp_path / "run").trajectories == {}


def test_a_problem_that_cannot_be_built_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    config = load(QUICKSTART, SMALL)
    monkeypatch.setattr(type(config.problem), "build", fail)
    with pytest.raises(MemoryError):
        experiment.run(config, tmp_path / "run")
    assert listing(tmp_path) == {}


def test_the_commit_is_that_of_the_checkout_or_unknown(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    with monkeypatch.context() as then:
        then.setattr(manifest, "__file__", str(Path("/nowhere/gradflow/manifest.py")))
        assert manifest._commit() is None
        then.setattr(manifest, "__file__", __file__)
        then.setattr(subprocess, "run", missing)
        assert manifest._commit() is None
    commit = manifest._commit()
    assert commit is None or len(commit) == 40
