"""Runs that are cut and go on: every bit is that of the run that was left alone."""

import shutil
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import logistic_scalar, quadratic

import gradflow as gf
from gradflow.storage import OtherRunError

SAVE = gf.Linear(count=9)


def same(found, expected):
    """The same records, to the bit, and the same counts."""
    assert list(found) == list(expected)
    for name, variable in expected.variables.items():
        assert found.variables[name].dims == variable.dims
        assert found[name].dtype == variable.values.dtype
        assert found[name].tobytes() == variable.values.tobytes(), name
    assert found.coords.keys() == expected.coords.keys()
    for axis, labels in expected.coords.items():
        assert np.array_equal(found.coords[axis], labels)
    assert found.crossings.keys() == expected.crossings.keys()
    for name, rows in expected.crossings.items():
        assert found.crossings[name].tobytes() == rows.tobytes()
    assert found.event_values == expected.event_values
    assert (found.result, found.final_time) == (expected.result, expected.final_time)
    pairs = (jax.tree.leaves(run.final_params) for run in (found, expected))
    for a, b in zip(*pairs, strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    times = ("wall_seconds", "compile_seconds")
    counts = ({k: v for k, v in r.stats.items() if k not in times} for r in (found, expected))
    assert next(counts) == next(counts)


def cut(act, is_cut, looks, more=0, most=400):
    """Do it again and again, ended each time when it has been looked at so often.

    Where what is there already is looked at too it takes `more` looks every time.

    Returns:
        What came of it at last, and how often it was cut.
    """
    for times in range(most):
        seen = []
        outcome = act(
            cancelled=lambda seen=seen, times=times: (
                seen.append(None) or len(seen) >= looks + more * times
            )
        )
        if not is_cut(outcome):
            return outcome, times
    raise AssertionError("it does not get on")


def was_cancelled(run):
    return run.result == "cancelled"


def stiff():
    problem, _, _ = quadratic(np.geomspace(1e-1, 3e3, 20))
    event = gf.Event("halfway", lambda s: jnp.sqrt(2 * s.dissipated) - 5.0)
    return gf.Problem(problem._loss, problem.params, problem.data, events=(event,))


FLOWS = {
    "stiff": (stiff, {"t1": 30.0, "rtol": 1e-4, "spectrum": gf.Spectrum()}, 2),
    "certified": (stiff, {"t1": 0.1, "rtol": 1e-3, "certify": True}, 6),
    "counted by the host": (stiff, {"t1": 0.02, "rtol": 1e-3, "solver": "kvaerno3"}, 1),
    "conjugate gradients": (stiff, {"t1": 30.0, "rtol": 1e-3, "solver": "kvaerno3-cg"}, 1),
    "heavy ball": (
        lambda: logistic_scalar()[0],
        {"t1": 30.0, "field": gf.fields.HeavyBall(learning_rate=0.1, momentum=0.9)},
        1,
    ),
    "share of the gradient": (
        lambda: logistic_scalar()[0],
        {"t1": 1e9, "stop": gf.Stop(relative_gradient_norm=1e-3)},
        1,
    ),
    "step limit": (lambda: logistic_scalar()[0], {"t1": 1e9, "rtol": 1e-9, "max_steps": 60}, 1),
}


@pytest.mark.parametrize("case", FLOWS)
def test_a_flow(case, tmp_path):
    build, options, looks = FLOWS[case]
    options = {"save": SAVE, "save_each": {"grad_norm": gf.Linear(count=4)}} | options
    alone = gf.solve(build(), **options)

    def act(cancelled):
        return gf.solve(build(), **options, checkpoints=tmp_path, cancelled=cancelled)

    found, times = cut(act, was_cancelled, looks)
    same(found, alone)
    assert times >= 2
    if case == "stiff":
        assert len(alone.stats["legs"]) >= 2
        assert alone.crossings["halfway"].shape == (1, 2)
    # What has ended is there at once.
    same(gf.solve(build(), **options, checkpoints=tmp_path, cancelled=lambda: True), alone)


def test_a_certificate_that_was_cut_after_its_run(tmp_path):
    """The run is at its end and its shadow is not: that is no whole run, at any look."""
    options = {"t1": 6.0, "rtol": 1e-7, "certify": True, "save": gf.Explicit(times=(0.0, 6.0))}
    alone = gf.solve(logistic_scalar()[0], **options)
    ended = 0
    for looks in range(1, 20):
        seen = []
        kept = gf.Checkpoints(tmp_path / str(looks), wall_seconds=None)
        asked = options | {"checkpoints": kept}
        end = lambda seen=seen, looks=looks: seen.append(None) or len(seen) >= looks  # noqa: E731
        cut = gf.solve(logistic_scalar()[0], **asked, cancelled=end)
        if cut.result != "cancelled":
            same(cut, alone)
            break
        if cut.final_time == alone.final_time:
            ended += 1
            same(gf.solve(logistic_scalar()[0], **asked), alone)
    assert ended


def test_states_at_simulated_times(tmp_path):
    """As asked for, and then the end; each can be gone on from."""
    home = tmp_path / "alone"
    asked = gf.Checkpoints(home, wall_seconds=None, save=gf.Explicit(times=(2.0, 5.0)), keep=9)
    options = {"t1": 9.0, "save": SAVE}
    alone = gf.solve(logistic_scalar()[0], **options, checkpoints=asked)
    assert asked.number == 3
    for number, time in ((1, 2.0), (2, 5.0)):
        part = tmp_path / str(number)
        part.mkdir()
        for path in home.iterdir():
            if int(path.name[:6]) <= number:
                shutil.copy(path, part)
        at = gf.Checkpoints(part).latest()["flow"]["record"].final_time
        assert time <= at < 9.0
        same(gf.solve(logistic_scalar()[0], **options, checkpoints=part), alone)


def test_no_state_unless_it_is_time(tmp_path):
    gf.solve(logistic_scalar()[0], t1=9.0, checkpoints=tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"rtol": 1e-5}, "rtol"),
        ({"t1": 8.0}, "t1"),
        ({"solver": "tsit5"}, "solver"),
        ({"observables": {"x": lambda t, params, data: params}}, "observables"),
        ({"problem": logistic_scalar(start=-1.0)[0]}, "params"),
    ],
)
def test_another_flow_is_refused(changed, key, tmp_path):
    options = {"problem": logistic_scalar()[0], "t1": 9.0}
    gf.solve(**options, checkpoints=tmp_path, cancelled=lambda: True)
    with pytest.raises(OtherRunError, match="checkpoints of another run") as caught:
        gf.solve(**options | changed, checkpoints=tmp_path)
    assert caught.value.keys == (key,)


DESCENTS = {
    "sgd": (stiff, {"learning_rate": 3e-4, "steps": 400, "spectrum": gf.Spectrum()}),
    "adam": (stiff, {"learning_rate": 0.01, "steps": 400, "optimiser": optax.adam}),
    "noisy": (
        stiff,
        {
            "learning_rate": 0.01,
            "steps": 400,
            "optimiser": lambda rate: optax.chain(
                optax.add_noise(0.1, 0.5, key=jax.random.key(0)), optax.adam(rate)
            ),
        },
    ),
    "diverging": (stiff, {"learning_rate": 7e-4, "steps": 10_000}),
}


@pytest.mark.filterwarnings("ignore::gradflow.StabilityWarning")
@pytest.mark.parametrize("case", DESCENTS)
def test_a_descent(case, tmp_path):
    build, options = DESCENTS[case]
    options = {"save": SAVE} | options
    alone = gf.descend(build(), **options)

    def act(cancelled):
        return gf.descend(build(), **options, checkpoints=tmp_path, cancelled=cancelled)

    found, times = cut(act, was_cancelled, 2)
    if case == "diverging":  # what it cost to find the last finite step depends on the chunks
        assert found.result == "diverged"
        for run in (found, alone):
            run.stats["gradient_evaluations"] = 0
    same(found, alone)
    assert times >= 2


def test_batches_are_those_of_the_step(tmp_path):
    data = jax.random.normal(jax.random.key(1), (12, 3))

    def build():
        return gf.Problem(sample_loss=lambda w, x: (x @ w - 1) ** 2, params=jnp.ones(3), data=data)

    options = {"learning_rate": 0.01, "steps": 200, "batch_size": 4, "key": jax.random.key(2)}
    alone = gf.descend(build(), **options, save=SAVE)

    def act(cancelled):
        asked = {"checkpoints": tmp_path, "cancelled": cancelled, "save": SAVE}
        return gf.descend(build(), **options, **asked)

    same(cut(act, was_cancelled, 2)[0], alone)


@pytest.mark.parametrize("certify", [False, True])
def test_a_comparison(certify, tmp_path):
    """Flow, shadow, descents and their modified flows, cut at any of their looks."""
    rates = [0.2, 0.15]
    options = {
        "t1": 6.0, "save": SAVE, "certify": certify,
        "modified": lambda rate: gf.fields.Modified(learning_rate=rate),
    }  # fmt: skip
    alone = gf.compare(logistic_scalar()[0], rates, **options)

    def act(cancelled):
        kept = gf.Checkpoints(tmp_path / str(looks), save=gf.Linear(count=3))
        return gf.compare(
            logistic_scalar()[0], rates, **options, checkpoints=kept, cancelled=cancelled
        )

    def is_cut(compared):
        runs = (compared.flow, *compared.descents)
        return any(was_cancelled(run) for run in runs)

    for looks in (1, 5):
        found, times = cut(act, is_cut, looks)
        assert times >= 2
        same(found.record, alone.record)
        same(found.flow, alone.flow)
        for one, other in zip(found.descents, alone.descents, strict=True):
            same(one, other)
        assert found.findings == alone.findings


def loss(params, data):
    return 0.5 * data * params["x"] ** 2


def bowl(seed):
    if seed == 2:
        raise RuntimeError("no such bowl")
    return gf.Problem(loss, {"x": jnp.asarray(1.0 + seed)}, jnp.asarray(2.0))


@pytest.mark.parametrize("batching", ["threads", "vmap"])
def test_an_ensemble(batching, tmp_path):
    """Seeds that were done are not solved again, of the others every bit is the same."""
    seeds = [seed for seed in range(6) if batching == "threads" or seed != 2]
    options = {"t1": 9.0, "rtol": 1e-8, "save": SAVE, "batching": batching, "at_once": 2}
    alone = gf.solve_ensemble(bowl, seeds, **options)
    reports = []

    def act(cancelled):
        return gf.solve_ensemble(
            bowl, seeds, **options, checkpoints=tmp_path, cancelled=cancelled,
            progress=reports.append,
        )  # fmt: skip

    found, times = cut(act, lambda runs: runs.cancelled, 4)
    assert times >= 1
    assert found.failures == alone.failures
    assert list(found.members) == list(alone.members)
    for seed, run in alone.members.items():
        same(found.members[seed], run)
    reports.clear()
    again = act(cancelled=None)
    assert {report.seed for report in reports} <= {2}
    assert list(again.members) == list(alone.members)
    # More seeds of the same: those that are new run.
    more = gf.solve_ensemble(bowl, [*seeds, 7], **options, checkpoints=tmp_path)
    lone = gf.solve(bowl(7), t1=9.0, rtol=1e-8, save=SAVE)
    np.testing.assert_allclose(more.members[7]["loss"], lone["loss"], rtol=1e-9)
    with pytest.raises(OtherRunError, match="t1 was"):
        gf.solve_ensemble(bowl, seeds, **options | {"t1": 8.0}, checkpoints=tmp_path)


class Widths(gf.tasks.Task):
    sizes: ClassVar = {"width": "width"}
    kind: str = "widths"
    width: int = 1

    def build(self, key, data_key=None):
        return gf.Problem(optax.l2_loss, float(self.width), 0.0)

    def measures(self, flow):
        return (gf.tasks.Measure("start", "loss at t = 0", float(flow["loss"][0])),)


def test_a_scaling_study(tmp_path):
    options = {"t1": 2.0, "save": SAVE}
    vary = {"width": [1, 2, 4, 8]}
    alone = gf.scaling_study(Widths(), vary, 2, **options)

    def act(cancelled):
        return gf.scaling_study(
            Widths(), vary, 2, **options, checkpoints=tmp_path, cancelled=cancelled
        )

    found, times = cut(act, lambda study: study.cancelled, 4, more=1)
    assert times >= 2
    assert found.points == alone.points == (4, 4)
    for name in alone.record:
        assert np.array_equal(found.record[name], alone.record[name], equal_nan=True)


def test_float32(tmp_path):
    start = jax.device_put(np.float32([1.0, -2.0]))
    rate = jax.device_put(np.float32(2.0))

    def build():
        return gf.Problem(lambda p, d: 0.5 * d * jnp.sum(p**2), start, rate)

    options = {"t1": 5.0, "rtol": 1e-3, "save": SAVE}
    alone = gf.solve(build(), **options)

    def act(cancelled):
        return gf.solve(build(), **options, checkpoints=tmp_path, cancelled=cancelled)

    found, times = cut(act, was_cancelled, 1)
    assert times >= 1
    same(found, alone)
