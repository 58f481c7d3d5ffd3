"""Descents in a configuration: what is stored, drawn, summed up and said."""

import json
import os
import re
import signal
from contextlib import nullcontext
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray
from command import CONFIGS, QUICKSTART, SMALL, gradflow, listing

import gradflow as gf
from gradflow import experiment
from gradflow.config import load
from gradflow.progress import display

# The largest is above 2 / sharpness at the start.
DESCENT = "descent={learning_rates: [1.5, 0.2, 0.1, 0.05], modified: true}"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A small run with descents by the command: its directory, and how it ended."""
    directory = tmp_path_factory.mktemp("runs") / "descents"
    arguments = (*SMALL, "flow.certify=true", DESCENT, "--output", directory)
    return directory, gradflow("solve", QUICKSTART, *arguments)


@pytest.fixture(autouse=True)
def _scratch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(display, "_LOG_SECONDS", 1e9)


def test_files(done):
    directory, ended = done
    assert (ended.code, ended.out) == (0, f"{directory}\n"), ended.err
    files = {name for name, content in listing(directory).items() if content is not None}
    assert {f"descent-{i}.nc" for i in range(4)} | {"comparison.nc", "flow.nc"} <= files
    drawn = {"drift", "drift-order", "edge-of-stability", "descent-loss", "conserved", "attention"}
    assert {f"figures/{name}.{kind}" for name in drawn for kind in ("png", "pdf")} <= files


def test_what_is_said(done):
    """The warning and the findings, each one line, and what the comparison's record keeps."""
    directory, ended = done
    lines = ended.err.splitlines()
    (warning,) = [line for line in lines if line.startswith("warning: ")]
    assert warning.startswith("warning: learning rate 1.5 is above 2 / sharpness = ")
    record = gf.load(directory).comparison
    assert record is not None
    (headline,) = (i for i, line in enumerate(lines) if "error estimated at " in line)
    findings = record.attrs["findings"]
    assert lines[headline + 1 : headline + 1 + len(findings)] == findings
    assert any("drift from the modified flow grows" in line for line in lines)


def test_stored_descents_are_those_of_python(done):
    """Byte for byte the numbers that `compare` and `descend` give."""
    run = gf.load(done[0])
    config = load(run.config)
    problem = config.problem.build(jax.random.key(config.seed))
    assert len(run.descents) == 4
    for rate, stored in zip(config.descent.learning_rates, run.descents, strict=True):
        assert stored.stats["learning_rate"] == rate
        assert stored.stats["steps"] == round(3 / rate) == stored.stats["gradient_evaluations"]
        assert np.array_equal(stored.time, rate * stored["step"])
        save = gf.Explicit(times=tuple(stored.time.tolist()))
        with pytest.warns(gf.StabilityWarning) if rate == 1.5 else nullcontext():
            alone = gf.descend(problem, learning_rate=rate, t1=3.0, save=save)
        for name in ("loss", "attention_score", "distance"):
            assert np.array_equal(stored[name], alone[name])
    with xarray.open_dataset(done[0] / "comparison.nc") as dataset:
        assert dataset["drift"].dims == ("time", "learning_rate")
        assert dataset["learning_rate"].values.tolist() == [1.5, 0.2, 0.1, 0.05]
        assert dataset["attention_score_difference"].dims == (
            "time", "learning_rate", "key", "query",
        )  # fmt: skip
    with xarray.open_dataset(done[0] / "flow.nc") as dataset:
        assert dataset["attention_score_error"].dims == ("time", "key", "query")
        assert dataset["time"].values.tolist() == np.linspace(0, 3, 20).tolist()


def test_the_summary(done):
    run = gf.load(done[0])
    summary = json.loads((done[0] / "summary.json").read_text())
    assert set(summary) == {"flow", "phases", "invariants", "descent", "comparison"}
    assert summary["flow"]["error_estimate"] == run.flow.stats["error_estimate"]
    assert summary["flow"]["error_estimate"] == np.nanmax(run.flow["relative_error"])
    record = run.comparison
    assert record is not None
    for j, row in enumerate(summary["descent"]):
        assert set(row) == {
            "learning_rate", "steps", "loss", "gradient_evaluations", "wall_seconds", "max_drift",
            "relative_drift", "diverged", "result",
        }  # fmt: skip
        assert row["loss"] == run.descents[j]["loss"][-1]
        assert row["max_drift"] == np.nanmax(record["drift"][:, j])
        assert row["relative_drift"] == record["relative_drift"][-1, j]
        assert not row["diverged"]
    numbers = summary["comparison"]
    assert numbers["time"] == 3
    assert numbers["fitted_rates"] == [0.2, 0.1, 0.05]
    assert numbers["order"][1] < numbers["order"][0] < numbers["order"][2]
    assert all(row["limit"] == 2 / row["learning_rate"] for row in numbers["stability"])


def test_plot_draws_the_same_again(done):
    before = listing(done[0])
    again = gradflow("plot", done[0])
    assert again.code == 0
    assert f"{done[0]}/figures/drift-order.png" in again.out.splitlines()
    assert listing(done[0]) == before


def test_an_interrupted_comparison_is_kept(monkeypatch):
    """Ctrl-C while the descents are under way: every run up to there, and exit code 130."""

    sent = []

    def interrupt(self, report):
        if report.fraction > 0.3 and not sent:
            sent.append(report)  # a second one would end the process at once
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(display.Display, "update", interrupt)
    # Compiled already, for the run that is not interrupted.
    done = gradflow("solve", QUICKSTART, *SMALL, "flow.certify=true", DESCENT)
    assert done.code == 130
    assert "what was computed is kept" in done.err
    run = gf.load(done.out.strip())
    *_, descent = run.descents
    assert descent.result == "cancelled"
    assert 0 < descent.final_time < 3
    assert descent.time[-1] == descent.final_time
    assert run.comparison is not None
    known = np.isfinite(run.comparison["drift"][:, -1])
    assert known.any()
    assert run.comparison.time[-1] <= descent.final_time + 1e-9


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "descent={learning_rates: [0.1], batch_size: 7}",
            "descent: batch_size = 7; allowed: from 1 to the number of samples, 6",
        ),
        (
            "descent={learning_rates: [0.1], optimiser: lbfgs}",
            "descent: the optimiser cannot take a step with what it is given, gradients, "
            "parameters and the value of the loss: ",
        ),
    ],
)
def test_descents_that_cannot_be_had_leave_nothing(override, told):
    done = gradflow("solve", QUICKSTART, *SMALL, override)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert re.match(r"override-\d+:1:9: " + re.escape(told), line)
    assert not Path("runs").exists()


def test_minibatches_adam_and_nesterov_from_a_configuration():
    for override in (
        "descent={learning_rates: [0.1, 0.05], batch_size: 3}",
        "descent={learning_rates: [0.01], optimiser: adam, options: {b1: 0.5}}",
        "descent={learning_rates: [0.02, 0.01], options: {momentum: 0.5, nesterov: true}, "
        "modified: true}",
    ):
        config = load(QUICKSTART, (*SMALL, "figures=false", override))
        compared = experiment.run(config, Path("run"), overwrite=True).comparison
        assert compared is not None
        assert np.isfinite(compared["drift"]).all()
        # Whatever the field, what it is the modified flow of is nearer to it than to the flow.
        if config.descent.modified:
            assert (compared["modified_drift"][-1] < compared["drift"][-1]).all()


def test_the_shipped_ladders():
    """The paper's descent, 30,000 steps of 0.01, is one of them."""
    config = load(CONFIGS / "cooccurrence.yaml")
    assert 0.01 in config.descent.learning_rates
    assert min(config.descent.learning_rates) < 0.01 < max(config.descent.learning_rates)
    assert config.flow.t1 / 0.01 == 30_000
    assert config.flow.certify
