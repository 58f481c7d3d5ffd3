"""Certified runs: the estimated error is the true one, of parameters and of observables."""

import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from problems import flat, logistic_scalar, quadratic, quartic_scalar, relative_errors
from scipy.linalg import expm

import gradflow as gf
from gradflow.storage import read_trajectory, write_trajectory
from gradflow.tasks import cooccurrence

RTOLS = (1e-3, 1e-4, 1e-5, 1e-6)
# One program serves them all: they are of one size.
SPECTRA = {
    "mild": ([0.1, 0.3, 1.0, 4.0, 10.0], 10.0),
    "stiff": ([0.01, 0.3, 1.0, 40.0, 1000.0], 10.0),
    "valley": ([0.01, 30.0, 100.0, 400.0, 1000.0], 10.0),
    "indefinite": ([-0.2, 0.5, 1.0, 2.0, 3.0], 10.0),
}
SMALL = gf.tasks.Cooccurrence(samples=12, vocabulary=12, width=8, neurons=8, test_samples=6)


def cases():
    """Name, problem, start, the exact flow as a function of time, and the end."""
    for name, (eigenvalues, t1) in SPECTRA.items():
        for seed in (0, 1):
            yield f"{name} {seed}", *quadratic(eigenvalues, seed), t1
    yield "logistic", *logistic_scalar(), 1e3
    yield "quartic", *quartic_scalar(), 1e3
    for seed in (0, 1):
        task = SMALL.build(jax.random.key(seed))
        # Without its observables: a run pays for its solver alone.
        model = task.model(task.params)
        problem = gf.Problem(params=model, data=task.data, sample_loss=cooccurrence.sample_loss)
        start = np.asarray(flat(0.0, problem.model(problem.params), None))
        yield f"co-occurrence {seed}", problem, start, tight(problem, 300.0), 300.0


def tight(problem, t1):
    """The flow by Dopri8 at 1e-12."""

    def exact(times):
        save = gf.Explicit(times=tuple(times))
        fields = {"t1": t1, "rtol": 1e-12, "solver": "dopri8", "save": save}
        return gf.solve(problem, observables={"flat": flat}, **fields)["flat"]

    return exact


def spread(t1, count=60):
    return np.array([0.0, *np.geomspace(t1 * 1e-6, t1, count)[:-1], t1])


def certified(problem, t1, times=None, **fields):
    """A certified run with the parameters among what is recorded."""
    fields["save"] = gf.Explicit(times=tuple(spread(t1) if times is None else times))
    return gf.solve(problem, t1=t1, observables={"flat": flat}, certify=True, **fields)


def true_error(flow, exact, start):
    return relative_errors(flow["flat"][1:], exact[1:], start).max()


@dataclass(frozen=True)
class Judged:
    """An estimate beside what it estimates."""

    name: str
    estimate: float
    truth: float

    @property
    def ratio(self):
        return self.estimate / self.truth


def judge(found):
    """Within a factor 3 in nine of ten runs, and never below a tenth."""
    missed = [each for each in found if not 1 / 3 < each.ratio < 3]
    assert len(missed) <= 0.1 * len(found), missed
    assert not [each for each in found if not each.ratio >= 0.1]


@eqx.filter_jit
def losses_of(problem, states):
    unravel = ravel_pytree(problem.params)[1]
    return jax.lax.map(lambda state: problem.loss(unravel(state), problem.data), states)


@pytest.fixture(scope="module")
def runs():
    """Forty-eight certified runs, with the exact parameters and losses at their times."""
    found = []
    for name, problem, start, flow, t1 in cases():
        times = spread(t1)
        exact = flow(times)
        losses = losses_of(problem, jnp.asarray(exact))
        for rtol in RTOLS:
            run = certified(problem, t1, times, rtol=rtol)
            assert run.result == "end_time"
            found.append((f"{name} {rtol:g}", run, start, exact, losses))
    return found


def test_the_estimate_is_the_error(runs):
    judged = [
        Judged(name, run.stats["error_estimate"], true_error(run, exact, start))
        for name, run, start, exact, _ in runs
    ]
    assert len(judged) >= 40
    judge(judged)


def test_the_estimates_of_observables_are_their_errors(runs):
    judge(
        [
            Judged(name, run["loss_error"].max(), np.abs(run["loss"] - losses).max())
            for name, run, _, _, losses in runs
        ]
    )
    judge(
        [
            Judged(name, run["flat_error"].max(), np.abs(run["flat"] - exact).max())
            for name, run, _, exact, _ in runs
        ]
    )


def test_every_variable_has_its_error_beside_it(runs):
    for _, run, start, exact, _ in runs:
        own = [name for name in run if not name.endswith("error")]
        assert {f"{name}_error" for name in own} | {"error", "relative_error"} == set(run) - set(
            own
        )
        for name in own:
            variable, error = run.variables[name], run.variables[f"{name}_error"]
            assert error.dims == variable.dims
            assert error.values.shape == variable.values.shape
            assert error.units == variable.units
            assert "error" in error.label
            assert (error.values[np.isfinite(variable.values)] >= 0).all()
        distances = np.linalg.norm(run["flat_error"], axis=1)
        np.testing.assert_allclose(run["error"], distances, rtol=1e-6)
        # Relative to what the shadow travelled, which is the exact distance to a small share.
        travelled = np.linalg.norm(exact - start, axis=1)[1:]
        np.testing.assert_allclose(run["relative_error"][1:], run["error"][1:] / travelled, 0.02)
        assert run["error"][0] == 0
        assert np.isnan(run["relative_error"][0])
        assert run.stats["error_estimate"] == run["relative_error"][1:].max()
        assert run.stats["certification_evaluations"] > run.stats["gradient_evaluations"]


def first_over_second(snapshot):
    return snapshot.params["a"][0] - snapshot.params["a"][1]


def test_certifying_changes_nothing_of_the_run():
    problem, *_ = quadratic(SPECTRA["stiff"][0])
    event = gf.Event("first_over_second", first_over_second)
    problem = gf.Problem(problem.loss, problem.params, problem.data, events=(event,))
    fields = {"t1": 30.0, "rtol": 1e-4, "observables": {"flat": flat}}
    plain, run = (gf.solve(problem, certify=certify, **fields) for certify in (False, True))
    assert [leg["solver"] for leg in run.stats["legs"]] == ["bosh3", "rkc2"]
    assert len(plain.crossings["first_over_second"]) > 0
    assert set(plain) < set(run)
    for key in plain:
        np.testing.assert_array_equal(run[key], plain[key], err_msg=key)
    for key in ("gradient_evaluations", "accepted", "rejected", "solver", "legs"):
        assert run.stats[key] == plain.stats[key]
    assert run.final_time == plain.final_time
    assert run.event_values == plain.event_values
    for key in plain.crossings:
        np.testing.assert_array_equal(run.crossings[key], plain.crossings[key])
    same = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), run.final_params, plain.final_params)
    assert all(jax.tree.leaves(same))


def test_errors_on_time_axes_of_their_own():
    """theta^4 / 4: everything recorded is a function of theta, and its error is known."""
    problem, _, exact = quartic_scalar()
    fields = {
        "save_each": {"flat": gf.Explicit(times=(0.5, 3.25))},
        "spectrum": gf.Spectrum(eigenvalues=1, save=gf.Explicit(times=(0.0, 1.5, 4.5))),
    }
    run = certified(problem, 5.0, np.linspace(0, 5, 11), rtol=1e-4, **fields)
    assert run.variables["flat_error"].dims == ("time_flat", "flat_0")
    assert run.variables["sharpness_error"].dims == ("time_hessian_eigenvalue",)
    assert run.variables["hessian_eigenvalue_error"].dims == (
        "time_hessian_eigenvalue",
        "eigenvalue",
    )
    assert len(run["loss_error"]) == 11
    theta = exact(run.times("sharpness"))[:, 0]
    truth = np.abs(run["sharpness"] - 3 * theta**2)
    assert truth.max() > 1e-6
    np.testing.assert_allclose(run["sharpness_error"], truth, rtol=0.05, atol=1e-2 * truth.max())
    truth = np.abs(run["flat"] - exact(run.times("flat")))
    np.testing.assert_allclose(run["flat_error"], truth, rtol=0.1)
    # The energy identity's residual is zero for the exact flow: all of it is error.
    residual = np.abs(run["energy_residual"][1:])
    worst = residual.max()
    np.testing.assert_allclose(run["energy_residual_error"][1:], residual, atol=0.05 * worst)


def test_a_run_that_stops_between_save_times():
    """Its last row has its errors too, on every time axis."""
    problem, _, exact = logistic_scalar()
    fields = {"stop": gf.Stop(loss=0.01), "save_each": {"flat": gf.Linear(count=5)}}
    run = certified(problem, 1e3, np.linspace(0, 1e3, 8), rtol=1e-3, **fields)
    assert run.result == "loss"
    end = run.final_time
    assert end not in np.linspace(0, 1e3, 8)
    assert run.time[-1] == run.times("flat")[-1] == end
    theta = exact(np.array([end]))[0, 0]
    truth = abs(run["loss"][-1] - np.log1p(np.exp(-theta)))
    assert run["loss_error"][-1] == pytest.approx(truth, rel=0.2)
    assert run["flat_error"][-1, 0] == pytest.approx(abs(run["flat"][-1, 0] - theta), rel=0.2)
    assert run["error"][-1] == run["flat_error"][-1, 0]
    for name in run:
        if name.endswith("_error") and name != "relative_error":
            known = np.isfinite(run[name.removesuffix("_error")])
            assert np.isfinite(run[name][known]).all(), name


def test_save_times_that_end_before_the_run_does():
    """What is certified includes where it ends."""
    problem, start, exact = quadratic(SPECTRA["indefinite"][0])
    run = certified(problem, 10.0, spread(0.01), rtol=1e-3)
    assert run.time[-1] == 0.01
    ending = np.asarray(flat(0.0, run.final_params, None))
    truth = relative_errors(ending, exact(np.array([10.0])), start)[0]
    assert run.stats["error_estimate"] == pytest.approx(truth, rel=0.1)
    assert truth > 2 * run["relative_error"][1:].max()


def test_cancelling():
    problem, start, exact = quadratic(SPECTRA["stiff"][0])
    reports = []
    run = certified(
        problem,
        1e9,
        rtol=1e-4,
        progress=reports.append,
        cancelled=lambda: len(reports) >= 20,
    )
    assert run.result == "cancelled"
    assert 0 < run.final_time < 1e9
    # Reports are of the run, not of its shadow.
    assert len(reports) == 20
    assert [r.time for r in reports] == sorted(r.time for r in reports)
    evaluations = [r.gradient_evaluations for r in reports]
    assert evaluations == sorted(evaluations)
    assert run.stats["gradient_evaluations"] <= evaluations[-1] + 1
    known = np.isfinite(run["relative_error"])
    assert known[1:-1].all()
    truth = relative_errors(run["flat"], exact(run.time), start + 1e-300)
    judge([Judged("", run.stats["error_estimate"], truth[known].max())])


def test_wall_time_is_the_runs_own():
    problem, *_ = quadratic(SPECTRA["stiff"][0])
    run = certified(problem, 1e9, max_steps=10**9, stop=gf.Stop(wall_seconds=0.05))
    assert run.result == "wall_time"
    assert np.isfinite(run["relative_error"][1:]).all()


def turning(t, params, data):
    return {"x": params["y"] - 0.1 * params["x"], "y": -params["x"] - 0.1 * params["y"]}


def test_a_vector_field_without_a_loss():
    problem = gf.Problem(vector_field=turning, params={"x": 1.0, "y": 0.0})
    start = np.array([1.0, 0.0])
    times = spread(5.0)
    run = certified(problem, 5.0, rtol=1e-5)
    exact = np.exp(-0.1 * times)[:, None] * np.stack([np.cos(times), -np.sin(times)], axis=1)
    assert "loss" not in run
    judge([Judged("turning", run.stats["error_estimate"], true_error(run, exact, start))])
    truth = np.abs(run["distance"] - np.linalg.norm(exact - start, axis=1)).max()
    judge([Judged("distance", run["distance_error"].max(), truth)])


ETA, MOMENTUM = 0.05, 0.8


def linear_fields(matrix):
    """The matrix of the equation for (params - minimum, velocity), and what starts at 0.

    The modified flow has no velocity of its own: that part stays what it is.
    """
    n = len(matrix)
    zero, one = np.zeros((n, n)), np.eye(n)
    mass, friction = ETA * (1 + MOMENTUM) / 2, 1 - MOMENTUM
    modified = np.block([[-(matrix + ETA / 2 * matrix @ matrix), zero], [zero, zero]])
    ball = np.block([[zero, one], [-matrix / mass, -friction / mass * one]])
    return {
        "modified": (gf.fields.Modified(learning_rate=ETA), modified, zero),
        "heavy ball": (
            gf.fields.HeavyBall(learning_rate=ETA, momentum=MOMENTUM),
            ball,
            # coast(0) = -h g(0) / (2 friction), and velocity = friction / mass x coast.
            -ETA / (2 * mass) * matrix,
        ),
    }


@pytest.mark.parametrize("name", ["modified", "heavy ball"])
def test_other_fields(name):
    problem, start, _ = quadratic([0.1, 0.3, 1.0, 4.0, 10.0])
    matrix, minimum = map(np.asarray, problem.data)
    field, generator, push = linear_fields(matrix)[name]
    times = spread(10.0)
    state = np.concatenate([start - minimum, push @ (start - minimum)])
    exact = np.array([minimum + (expm(t * generator) @ state)[: len(start)] for t in times])
    judged = []
    for rtol in (1e-5, 1e-6):
        run = certified(problem, 10.0, rtol=rtol, field=field)
        judged.append(Judged(name, run.stats["error_estimate"], true_error(run, exact, start)))
        assert run["flow_energy_error"].shape == run["flow_energy"].shape
        assert (run["flow_energy_error"][1:] > 0).any()
    judge(judged)


def valley_loss(params, data):
    """A narrow valley that narrows on its way down. Noise across it pushes back up."""
    across, along = params
    return 500 * across**2 * jnp.exp(along) + 0.01 * (along - 1) ** 2 / 2


def test_an_explicit_method_that_misses_its_tolerance():
    """At its stability limit it leaves noise across the valley: the certificate says how much."""
    problem, start = gf.Problem(valley_loss, jnp.array([1.0, 0.0])), np.array([1.0, 0.0])
    exact = tight(problem, 30.0)(spread(30.0))
    judged = []
    for rtol in (1e-3, 3e-4):
        run = certified(problem, 30.0, rtol=rtol, solver="tsit5")
        truth = true_error(run, exact, start)
        judged.append(Judged(f"{rtol:g}", run.stats["error_estimate"], truth))
        assert truth > 3 * rtol
    judge(judged)


@pytest.mark.parametrize("solver", ["rkl2", "kvaerno5"])
def test_every_solver_can_be_certified(solver):
    problem, start, exact = quadratic(SPECTRA["mild"][0])
    run = certified(problem, 10.0, rtol=1e-5, solver=solver)
    assert run.stats["solver"] == solver
    truth = true_error(run, exact(run.time), start)
    judge([Judged(solver, run.stats["error_estimate"], truth)])


def decay_loss(params, data):
    return jnp.sum(data * params**2) / 2


DECAY_RATES, DECAYS_FROM = np.array([0.1, 1.0, 5.0]), np.array([1.0, 2.0, 3.0])


def decaying(dtype):
    return gf.Problem(decay_loss, jnp.asarray(DECAYS_FROM, dtype), DECAY_RATES.astype(dtype))


def test_float32():
    times = (0.0, 0.1, 0.3, 0.7, 1.1, 2.9)  # none of them of that precision
    run = certified(decaying(np.float32), 2.9, times, rtol=1e-3)
    assert run["error"].dtype == run["loss_error"].dtype == np.float32
    exact = DECAYS_FROM * np.exp(-np.multiply.outer(np.array(times), DECAY_RATES))
    assert np.isfinite(run["relative_error"][1:]).all()
    assert np.isfinite(run["loss_error"]).all()
    truth = true_error(run, exact, DECAYS_FROM)
    judge([Judged("float32", run.stats["error_estimate"], truth)])
    with pytest.raises(ValueError, match=r"rtol = 2e-05 cannot be certified in float32") as caught:
        certified(decaying(np.float32), 3.0, rtol=2e-5)
    assert "raise rtol to 3.6e-05, use float64" in str(caught.value)
    assert "\n" not in str(caught.value)
    gf.solve(decaying(np.float32), t1=3.0, rtol=2e-5)  # can be had, not certified
    assert certified(decaying(np.float32), 3.0, rtol=3.7e-5).stats["error_estimate"] < 4e-4


def test_the_tightest_tolerances_of_float64():
    run = certified(decaying(np.float64), 3.0, rtol=1e-12)
    exact = DECAYS_FROM * np.exp(-np.multiply.outer(run.time, DECAY_RATES))
    truth = true_error(run, exact, DECAYS_FROM)
    judge([Judged("1e-12", run.stats["error_estimate"], truth)])
    with pytest.raises(ValueError, match=r"rtol = 5e-14 cannot be certified in float64"):
        certified(decaying(np.float64), 3.0, rtol=5e-14)


def test_a_run_that_does_not_move():
    run = certified(gf.Problem(decay_loss, jnp.zeros(3), DECAY_RATES), 1.0, rtol=1e-12)
    assert (run["error"] == 0).all()
    assert math.isnan(run.stats["error_estimate"])


def walled_loss(params, data):
    return jnp.where(params < data, jnp.nan, params**2 / 2)


def test_a_shadow_that_fails():
    """The loss is no number beyond a wall. The run's error keeps it from there, and hides it."""
    t1 = 3.0
    wall = gf.Problem(walled_loss, jnp.asarray(1.0), 1.02 * math.exp(-t1))
    fields = {"rtol": 0.1, "solver": "rkc2", "save": gf.Linear(count=11)}
    run = gf.solve(wall, t1=t1, certify=True, **fields)
    assert run.result == "end_time"
    assert math.isnan(run.stats["error_estimate"])
    for name in ("error", "relative_error", "loss_error"):
        assert np.isfinite(run[name][1:-1]).all()
        assert np.isnan(run[name][-1])


def cubic_loss(params, data):
    return -(params**3) / 3


def test_a_run_that_fails():
    """theta' = theta^2 reaches infinity at t = 1."""
    run = certified(gf.Problem(cubic_loss, jnp.asarray(1.0)), 2.0, rtol=1e-5)
    assert run.result == "step_underflow"
    early = (run.time > 0) & (run.time < 0.9)
    exact = 1 / (1 - run.time[early])
    truth = np.abs(run["flat"][early, 0] - exact) / (exact - 1)
    np.testing.assert_allclose(run["relative_error"][early].max(), truth.max(), rtol=0.2)
    start = certified(gf.Problem(cubic_loss, jnp.asarray(np.nan)), 2.0, rtol=1e-5)
    assert start.result == "not_finite"
    assert len(start["relative_error"]) == len(start["flat_error"]) == 0


@pytest.mark.parametrize("name", ["error", "relative_error", "loss_error"])
def test_names_that_are_taken(name):
    problem, *_ = logistic_scalar()
    with pytest.raises(ValueError, match=f"an observable is called '{name}'.*rename it") as caught:
        gf.solve(problem, t1=1.0, observables={name: flat}, certify=True)
    assert "\n" not in str(caught.value)


def test_observables_that_are_no_floats():
    problem, *_ = quartic_scalar()
    observables = {
        "count": lambda t, p, d: jnp.sum(p > 0.5),
        "large": lambda t, p, d: p > 0.5,
        "pair": lambda t, p, d: jnp.stack([p, -p]),
    }
    run = gf.solve(problem, t1=5.0, observables=observables, certify=True)
    assert run["count_error"].dtype == run["large_error"].dtype == float
    assert run["count_error"].max() == run["large_error"].max() == 0
    assert run.variables["pair_error"].dims == ("time", "pair_0")


def test_on_disk(tmp_path, runs):
    run = runs[0][1]
    write_trajectory(tmp_path / "flow.nc", run)
    read = read_trajectory(tmp_path / "flow.nc")
    assert set(read) == set(run)
    for name in run:
        np.testing.assert_array_equal(read[name], run[name])
        assert read.variables[name].dims == run.variables[name].dims
        assert read.variables[name].label == (run.variables[name].label or name)
    for name in ("error_estimate", "certification_evaluations"):
        assert read.stats[name] == run.stats[name]


def test_changed_values_compile_nothing():
    """Another tolerance that the same methods serve, another end, other save times and data."""
    names = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **kw: (
            names.append(event) if event.endswith("backend_compile_duration") else None
        )
    )
    certified(quadratic(SPECTRA["mild"][0])[0], 10.0, rtol=1e-4)
    del names[:]
    certified(quadratic(SPECTRA["mild"][0], seed=4)[0], 7.0, rtol=2e-4)
    assert names == []
