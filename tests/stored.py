"""Stored runs that nothing was solved for, one for every state that a run may be left in."""

import json

import numpy as np

from gradflow import ensemble, storage
from gradflow.scaling.record import Plan
from gradflow.scaling.record import assemble as table
from gradflow.tasks import Claim, Coupled, Measure, tally
from gradflow.trajectory import Trajectory, Variable

MANIFEST = {
    "command": "gradflow solve a.yaml problem.model='logistic' --output <here>",
    "versions": {"gradflow": "0", "jax": "1"},
    "device": {"platform": "cpu", "kind": "cpu"},
    "precision": "float64",
    "seed": 3,
    "commit": "c0ffee",
}
ENDED = MANIFEST | {"ended": "2026-11-24T12:00:00+00:00"}
CONFIG = "problem: {kind: digits}\nflow: {t1: 4, rtol: 1.0e-4, certify: true}\nseed: 3\n"
LEGS = [
    {"solver": name, "from": at, "to": at + 2, "accepted": 7, "rejected": 1,
     "gradient_evaluations": 1234}
    for name, at in (("bosh3", 0.0), ("rkc2", 2.0))
]  # fmt: skip
STATS = {
    "gradient_evaluations": 2468, "accepted": 14, "rejected": 2, "solver": "bosh3 and rkc2",
    "wall_seconds": 0.5, "compile_seconds": 1.5,
}  # fmt: skip
CLAIMS = (
    Claim("<w_i, w_j> >= 0", "Lemma 1", "smallest", 8.5e-05, 1e-9, True, 1.0, (0.5, 4.0)),
    Claim("|W^T a|^2 falls", "Thm 2", "change", -0.25, held=False, share=0.1, interval=(1, 4)),
    Claim("C is bounded", "Thm 3", "C", 2.0, note="no bound"),
)


def flow(result="end_time", **stats) -> Trajectory:
    """Five times of a falling loss whose worst error, 0.02, is at t = 3."""
    one = {
        "loss": (np.array([5.0, 4.0, 3.0, 2.0, 1.0]), "training loss"),
        "loss_error": (np.array([0.0, 0.01, 0.01, 0.02, 0.005]), "error of training loss"),
        "error": (np.array([0.0, 1e-5, 4e-5, 2e-5, 1e-5]), "error of the parameters"),
        "relative_error": (np.array([np.nan, 1e-5, 3e-5, 1e-5, 1e-5]), "relative error"),
        "accuracy": (np.linspace(0.1, 0.9, 5), "accuracy"),
    }
    variables = {name: Variable(values, ("time",), label) for name, (values, label) in one.items()}
    stats = STATS | {"legs": LEGS, "error_estimate": 3e-5} | stats
    return Trajectory(variables, {"time": np.arange(5.0)}, 4.0, stats, result)


def comparison() -> Trajectory:
    """Two descents, of first order in the learning rate."""
    rates, times = np.array([0.1, 0.05]), np.arange(5.0)
    relative = rates * times[:, None]
    variables = {
        "drift": Variable(4 * relative, ("time", "learning_rate"), "drift"),
        "relative_drift": Variable(relative, ("time", "learning_rate"), "relative drift"),
        "matched_time": Variable(times[:, None] + 0 * rates, ("time", "learning_rate"), "time"),
    }
    coords = {"time": times, "learning_rate": rates}
    return Trajectory(variables, coords, 4.0, {}, "end_time", attrs={"fitted_rates": [0.1, 0.05]})


def summary(run: Trajectory) -> dict:
    """That of a run, with what no page knows of."""
    numbers = {key: value for key, value in run.stats.items() if key != "legs"}
    return {
        "flow": {"t1": run.final_time, "loss": 1.0, **numbers, "result": run.result},
        "phases": {"T_half": 0.5, "T1": None},
        "invariants": {"energy_identity": 4.7e-10},
        "critical_point": {"type": "saddle", "index": 1, "reason": ""},
        "later": {"lowest_point": {"index": 2, "bends": [0.5, -1.5e-7]}, "found": True},
    }


def save(directory, runs, manifest=ENDED, config=CONFIG, **files):
    """A run of these trajectories, and of JSON and text by the stems and names of their files."""
    storage.create(directory, manifest, overwrite=False)
    if config is not None:
        (directory / storage.CONFIG).write_text(config)
    for stem, trajectory in runs.items():
        storage.write_trajectory(directory / f"{stem}.nc", trajectory)
    for stem, content in files.items():
        storage.write_json(directory / f"{stem}.json", content)
    return directory


def whole(directory):
    """A user's own problem, with everything that a run of one seed may have."""
    descents = [
        {"learning_rate": rate, "steps": round(4 / rate), "loss": 1.5, "max_drift": 1.6,
         "gradient_evaluations": round(4 / rate), "wall_seconds": 0.1, "relative_drift": 4 * rate,
         "diverged": False, "result": "end_time"}
        for rate in (0.1, 0.05)
    ]  # fmt: skip
    found = {"findings": ["learning rate 0.1 starts above 2/eta = 20"]}
    told = summary(flow()) | {"descent": descents, "comparison": found, "notes": ["it is <flat>"]}
    runs = {"flow": flow(), "comparison": comparison(), "descent-0": flow(), "descent-1": flow()}
    claims = {"claims": [claim._asdict() for claim in CLAIMS]}
    config = CONFIG.replace("digits", "python, target: 'problem.py:make'")
    made = save(directory, runs, config=config, summary=told, claims=claims)
    (made / "problem.py").write_text(
        'def make():\n    """A <script>alert("1")</script> & what not.\n\n    More."""\n'
        "    return 1 < 2\n"
    )
    return made


def of_seeds(directory):
    """Three seeds, of which the last failed."""
    runs = {seed: flow() for seed in (3, 4)} | {5: flow("step_limit")}
    record = ensemble.record.assemble(runs, 1.0, 0.5)
    record.attrs.update(phases={"T1": {"3": 0.4, "4": 0.8}}, invariants={})
    tallied = tally(dict.fromkeys((3, 4), CLAIMS))
    seeds = {"begun": 3, "whole": 2, "T1": 2, "failures": {"5": "at t = 4: it took max_steps"}}
    return save(
        directory,
        {"flow": record},
        ENDED | {"seeds": 3},
        CONFIG + "seeds: 3\n",
        summary={"flow": {"t1": 4.0, "loss": 1.0}, "seeds": seeds},
        claims={"claims": [claim._asdict() for claim in tallied]},
    )


def of_sizes(directory):
    """A study of the width, of what goes as its square."""
    task, widths = Coupled(neurons=4), (16, 32, 64)
    plan = Plan.of(task, {"width": widths}, 0)
    measured = {
        point: {
            seed: [Measure("T1", "$T_1$", point.width**2 * (1 + 0.01 * seed), "Thm 3.1",
                           order=float(point.width))]
            for seed in (0, 1)
        }
        for point in plan.points
    }  # fmt: skip
    record = table(plan, measured, (0, 1), ["width 64, seed 1: it took max_steps"])
    config = "problem: {kind: coupled}\nflow: {t1: 4}\nseeds: 2\n"
    config += "scaling: {vary: {width: [16, 32, 64]}}\n"
    told = {"scaling": [], "failures": record.attrs["failures"]}
    return save(directory, {"scaling": record}, ENDED | {"seeds": 2}, config, summary=told)


def failed(directory):
    """The numerics did not go on."""
    run = flow("step_underflow")
    return save(directory, {"flow": run}, summary=summary(run))


def interrupted(directory):
    """By Ctrl-C."""
    run = flow("cancelled")
    return save(directory, {"flow": run}, summary=summary(run))


def killed(directory):
    """Before anything was computed."""
    return save(directory, {}, MANIFEST)


def killed_on_its_way(directory):
    """With a state to go on from."""
    made = save(directory, {}, MANIFEST)
    keep(made, {"flow": {"record": flow("unfinished")}, "descents": [{"record": flow()}]})
    return made


def killed_between_seeds(directory):
    """With two of three done."""
    made = save(directory, {}, MANIFEST | {"seeds": 3}, CONFIG + "seeds: 3\n")
    keep(made, {"seeds": storage.Finished({str(i): {"run": flow()} for i in (3, 4)})})
    return made


def keep(directory, state):
    """A checkpoint."""
    checkpoints = storage.Checkpoints(directory / storage.CHECKPOINTS)
    checkpoints.begin({})
    checkpoints.keep(lambda: state, now=True)


def killed_at_once(directory):
    """Before even the configuration was written."""
    return save(directory, {}, MANIFEST, config=None)


def killed_at_the_end(directory):
    """Between the first file and the last."""
    return save(directory, {"flow": flow()}, MANIFEST)


def outdated(directory):
    """With a configuration that is none any more."""
    made = save(directory, {"flow": flow()}, config="problem: {kind: <gone>}\n")
    (made / "summary.json").write_text(json.dumps(summary(flow())))
    return made


STATES = {
    "whole": whole, "seeds": of_seeds, "sizes": of_sizes, "failed": failed,
    "interrupted": interrupted, "killed": killed, "killed at once": killed_at_once,
    "killed on its way": killed_on_its_way, "killed between seeds": killed_between_seeds,
    "killed at the end": killed_at_the_end, "outdated": outdated,
}  # fmt: skip
