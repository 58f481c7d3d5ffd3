"""`seeds` in a configuration: what the command says, and what it leaves."""

import json
import os
import signal

import equinox as eqx
import jax
import numpy as np
import pytest
import xarray
from command import QUICKSTART, SMALL, gradflow, listing

import gradflow as gf
from gradflow.config import load
from gradflow.experiment import build
from gradflow.progress import display


@pytest.fixture(autouse=True)
def _scratch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "seeds"
    command = "solve", QUICKSTART, *SMALL, "seeds=4", "seed=2", "--output", folder
    return folder, gradflow(*command)


def test_every_seed_is_stored_as_the_run_that_it_is_alone(done):
    folder, said = done
    assert said.code == 0
    assert said.out == f"{folder}\n"
    flow = gf.load(folder).flow
    assert flow.coords["seed"].tolist() == [2, 3, 4, 5]
    config = load(folder / "config.yaml")
    arguments = {name: getattr(config.flow, name) for name in type(config.flow).model_fields}
    final = np.load(folder / "flow-final.npz")
    for i, seed in enumerate(range(2, 6)):
        alone = gf.solve(build(config, seed), **arguments)
        for name in ("loss", "attention_score", "balance_mlp"):
            assert np.array_equal(flow[name][..., i], alone[name])
        assert np.array_equal(final["w_v"][i], alone.final_params.w_v)
    with xarray.open_dataset(folder / "flow.nc") as dataset:
        assert dataset["attention_score"].dims == ("time", "key", "query", "seed")


def test_the_claims_are_those_of_every_seed(done):
    folder, said = done
    task = load(folder / "config.yaml").problem
    rows = {row["name"]: row for row in json.loads((folder / "claims.json").read_text())["claims"]}
    table = said.err.splitlines()
    config = load(folder / "config.yaml")
    arguments = {name: getattr(config.flow, name) for name in type(config.flow).model_fields}
    for seed in range(2, 6):
        for claim in task.claims(gf.solve(build(config, seed), **arguments)):
            found = rows[claim.name]["by_seed"][str(seed)]
            assert found == {"value": claim.value, "held": claim.held, "share": claim.share}
    row = rows["G1 + G3 < 0 at the end"]
    held = [one["held"] for one in row["by_seed"].values()]
    assert (row["held"], row["decided"]) == (sum(held), 4)
    (line,) = [line for line in table if line.startswith("G1 + G3 < 0 at the end")]
    assert f"{sum(held)} of 4" in line
    assert f"{100 * row['low']:.0f} to {100 * row['high']:.0f} %" in line


def test_the_summary_and_the_headline(done):
    folder, said = done
    run = gf.load(folder)
    config = load(folder / "config.yaml")
    summary = run.summary
    assert summary["seeds"]["begun"] == summary["seeds"]["whole"] == 4
    assert "failures" not in summary["seeds"]
    assert summary["flow"]["loss"] == np.median(run.flow["loss"][-1])
    assert run.manifest["seeds"] == 4
    reached = [t for t in run.flow.attrs["phases"]["T1"].values() if t is not None]
    assert summary["seeds"]["T1"] == len(reached)
    if 2 * len(reached) >= config.seeds:
        assert summary["phases"]["T1"]["median"] == pytest.approx(np.median(reached))
    else:
        assert summary["phases"]["T1"] is None
    assert f"4 seeds, t = 3, loss {summary['flow']['loss']:.4g}" in said.err
    assert summary["invariants"]["balance_mlp"] == run.flow["balance_mlp"].max()


def test_plot_draws_the_same_again(done):
    folder, _ = done
    before = listing(folder)
    assert {"attention.png", "loss.png", "response.png", "balance.png"} <= {
        name.removeprefix("figures/") for name in before
    }
    assert gradflow("plot", folder).code == 0
    assert listing(folder) == before


@pytest.mark.parametrize(("fixed", "varied"), [("data_seed", "params"), ("initial_seed", "data")])
def test_data_and_initial_parameters_can_be_held_fixed(fixed, varied):
    config = load(QUICKSTART, (*SMALL, "seeds=2", f"{fixed}=9"))
    one, other = (build(config, seed) for seed in (0, 1))
    plain = config.problem.build(jax.random.key(9))
    kept = "data" if varied == "params" else "params"
    assert eqx.tree_equal(getattr(one, kept), getattr(other, kept))
    assert eqx.tree_equal(getattr(one, kept), getattr(plain, kept))
    assert not eqx.tree_equal(getattr(one, varied), getattr(other, varied))


def test_a_seed_that_fails_is_told_of_and_the_others_are_kept():
    """At this limit of steps one of five does not come to the end."""
    common = ("solve", QUICKSTART, *SMALL, "flow.rtol=1e-5", "flow.solver=bosh3", "seeds=5")
    whole = gf.load(gradflow(*common, "--output", "whole", "figures=false").out.strip()).flow
    # What each needs is told by a run alone.
    needed = {}
    config = load("whole/config.yaml")
    arguments = {name: getattr(config.flow, name) for name in type(config.flow).model_fields}
    for seed in range(5):
        needed[seed] = gf.solve(build(config, seed), **arguments).stats["accepted"]
    most = max(needed.values())
    failing = [seed for seed, steps in needed.items() if steps == most]
    limit = f"flow.max_steps={most - 1}"
    said = gradflow(*common, limit, "--output", "short")
    assert said.code == 3
    for seed in failing:
        assert f"seed {seed} failed at t = " in said.err
    assert said.err.splitlines()[-1].startswith(f"{len(failing)} of 5 seeds failed; the others")
    run = gf.load("short")
    assert list(run.summary["seeds"]["failures"]) == [str(seed) for seed in failing]
    assert run.flow.attrs["results"][str(failing[0])] == "step_limit"
    for seed in set(range(5)) - set(failing):
        assert np.array_equal(run.flow["loss"][:, seed], whole["loss"][:, seed])
    rows = json.loads((run.directory / "claims.json").read_text())["claims"]
    assert {row["seeds"] for row in rows} == {5 - len(failing)}
    assert (run.directory / "figures" / "loss.png").exists()


def test_an_interrupted_ensemble_is_kept(monkeypatch):
    sent = []

    def interrupt(self, report):
        if report.fraction > 0.03 and not sent:
            sent.append(report)  # a second one would end the process at once
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(display.Display, "update", interrupt)
    said = gradflow("solve", QUICKSTART, *SMALL, "seeds=1000")
    assert said.code == 130
    run = gf.load(said.out.strip())
    begun, whole = run.summary["seeds"]["begun"], run.summary["seeds"]["whole"]
    assert 20 < whole <= begun < 1000
    assert f"interrupted after {whole} of 1000 seeds; what was computed is kept" in said.err
    assert run.flow["loss"].shape[-1] == begun


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (("seeds=0",), "override-1:1:7: seeds: got 0; allowed: a whole number of at least 1"),
        (("seeds=2.5",), "override-1:1:7: seeds: got 2.5; allowed: a whole number of at least 1"),
        (
            ("seeds=3", "seed=4294967295"),
            "override-1:1:7: seeds: 3 seeds from 4294967295 on reach beyond 4294967295, the "
            "largest; allowed: seed at most 4294967293",
        ),
        (
            ("seeds=3", "data_seed=1", "initial_seed=2"),
            "override-1:1:7: seeds: all 3 runs would be the same, with both data_seed and "
            "initial_seed given; allowed: one of them, or none",
        ),
        (
            ("descent={learning_rates: [0.01]}", "seeds=3"),
            "override-1:1:9: descent: descents run beside one flow, and there are 3 seeds; "
            "allowed: null, or seeds: 1",
        ),
        (("data_seed=-1",), "override-1:1:11: data_seed: got -1; allowed: "),
    ],
)
def test_seeds_that_cannot_be_are_refused_in_a_line(overrides, fault):
    said = gradflow("solve", QUICKSTART, *overrides)
    assert said.code == 2
    assert said.err.startswith(fault)
    assert said.err.count("\n") == 1
