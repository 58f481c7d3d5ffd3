"""The benchmark's own arithmetic: reading a diagram, counting gradients, steps of fixed size."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks.families.work_precision.record import Draw, Point, read, write
from extensisq import SSV2stab
from extensisq.sommeijer import nfesig
from scipy.integrate import RK45, solve_ivp

import gradflow as gf
from benchmarks.families.work_precision.criteria import criteria
from benchmarks.families.work_precision.matched import around, cost_at, evaluations
from benchmarks.families.work_precision.measure import Effort, measure
from benchmarks.methods import (
    Method,
    Run,
    RunFailedError,
    Setting,
    by_diffrax,
    by_scipy,
    fixed_steps,
    own,
)
from benchmarks.problems import Case
from benchmarks.suite import Criterion
from gradflow.solvers import Counter, PowerIteration
from gradflow.solvers.spectral_radius import Point as Place

EIGENVALUES = np.array([0.5, 2.0, 8.0])
T1 = 3.0


def loss(params, data):
    return jnp.sum(data * params["w"] ** 2) / 2


def make(seed):
    return gf.Problem(loss, {"w": jnp.ones(3)}, jnp.asarray(EIGENVALUES))


def exact(times):
    return np.exp(-np.multiply.outer(times, EIGENVALUES))


@pytest.fixture(scope="module")
def setting():
    case = Case("diagonal", "", make, T1, frozenset(), closed_form=lambda seed, t: exact(t))
    times = np.array([0.0, 0.3, 1.0, T1])
    return Setting(case, 0, make(0), times, exact(times), np.full(4, 8.0))


def point(rung, cost, final, method="rkc2", **fields):
    fields = {"worst": final, "seconds": [0.1], "accepted": 10, "rejected": 0} | fields
    return Point(method, rung, cost, final=final, **fields)


def test_cost_at_an_error_follows_a_power_law():
    points = [point(error, 100 * error**-0.5, error) for error in (1e-2, 1e-3, 1e-5)]
    for error in (1e-2, 3e-3, 1e-4, 1e-5):
        assert cost_at(points, error, evaluations) == pytest.approx(100 * error**-0.5)


def test_a_run_more_accurate_than_asked_counts_as_it_is():
    points = [point(1e-2, 50, 1e-4), point(1e-3, 40, 1e-6)]
    assert cost_at(points, 1e-3, evaluations) == 40
    assert cost_at(points, 1e-3, evaluations, between=True) is None
    assert cost_at(points, 1e-4, evaluations, between=True) == 40
    assert around(points, 1e-3) == points[:1]
    assert cost_at(points, 1e-7, evaluations) is None
    assert around(points, 1e-7) == []


@pytest.mark.parametrize("method", [diffrax.Tsit5(), diffrax.Dopri8()])
def test_diffrax_evaluations_are_those_that_were_made(setting, method):
    counter = Counter()
    arguments = [jnp.asarray(x) for x in (T1, setting.times, 1e-3)]
    solution = by_diffrax._integrate(method, setting.problem, *arguments, counter)
    steps = int(solution.stats["num_steps"])
    assert counter.read() == by_diffrax.explicit_evaluations(method, steps)
    assert setting.error(np.asarray(solution.ys)).worst < 0.05


def test_scipy_evaluations_are_those_that_it_reports(setting):
    def reported(method, rtol=1e-4):
        return solve_ivp(
            lambda t, y: -EIGENVALUES * y, (0, T1), np.ones(3), method, rtol=rtol, atol=1e-3 * rtol
        ).nfev

    run = by_scipy.by_scipy(RK45, hessian=False)(setting, 1e-4)
    assert run.evaluations == reported(RK45)
    assert setting.error(run.states).worst < 1e-3
    run = by_scipy.by_scipy(SSV2stab, hessian=False)(setting, 1e-4)
    # Those for the spectral radius it counts apart.
    assert run.evaluations == reported(SSV2stab) + int(nfesig)
    assert setting.error(run.states).worst < 1e-3


@pytest.mark.parametrize("step", [fixed_steps._euler, fixed_steps._rk4])
def test_fixed_steps_are_powers_of_the_stability_polynomial(setting, step):
    stages, degree = (1, 1) if step is fixed_steps._euler else (4, 4)
    share = 0.64  # steps of 0.08: 37 whole ones and half of one
    run = fixed_steps.in_fixed_steps(step, stages)(setting, share)

    def factor(h):
        z = -h * EIGENVALUES
        return sum(z**k / np.prod(np.arange(1.0, k + 1)) for k in range(degree + 1))

    np.testing.assert_allclose(run.states[-1], factor(0.08) ** 37 * factor(0.04), rtol=1e-12)
    assert run.evaluations == 38 * stages
    # What is recorded on the way does not change the steps.
    np.testing.assert_allclose(run.states[1], factor(0.08) ** 3 * factor(0.06), rtol=1e-12)


def test_the_estimators_evaluations_are_counted(setting):
    counter = Counter()
    counted = own._Counted(PowerIteration(), counter)
    y = jnp.ones(3)
    term = diffrax.ODETerm(lambda t, y, args: -jnp.asarray(EIGENVALUES) * y)
    place = Place.of(term, 0.0, y, term.vf(0.0, y, None), None, lambda state: state)
    radius, _, price = jax.jit(lambda: counted.estimate(place, counted.init(y)))()
    assert counter.read() == int(price) + 1
    assert radius == pytest.approx(1.1 * 8, rel=0.05)


def test_ladders_end_where_a_method_fails_or_takes_too_long(setting):
    def slow(setting, rung):
        return Run(setting.exact * (1 + rung), 7, seconds=1.0)

    def failing(setting, rung):
        raise RunFailedError("no")

    rungs = (1e-1, 1e-2, 1e-3)
    methods = [Method("slow", slow, rungs), Method("failing", failing, rungs)]
    draw = measure(setting, methods, Effort(repeats=2, limit=0.5), lambda line: None)
    assert [(p.rung, p.evaluations, p.seconds) for p in draw.points] == [(1e-1, 7, [1.0, 1.0])]
    error = 0.1 * np.linalg.norm(exact(T1)) / np.linalg.norm(exact(T1) - 1)
    assert draw.points[0].final == pytest.approx(error)
    assert draw.failures == {"failing": "at 0.1: no"}


def test_criteria_name_what_is_worst():
    line = Criterion("a against b", 0.5, {"hi 0": 0.4, "mlp 0": 0.6})
    assert line.passed is False
    assert str(line) == "FAIL  a against b: at most 0.5; 0.4 to 0.6 (mlp 0), 1 of 2 above"
    assert "not measured" in str(Criterion("a", 1, {}))


def test_criteria_are_computed_from_the_runs():
    """At error 5e-3: rkc2 takes 100 gradients, bosh3 2000, gradient descent 900."""
    draw = Draw("hi", 0, 661, stiffness=1000.0)
    draw.points += [point(1e-2, 100, 5e-3, estimator=20, worst=2e-2, rejected=1)]
    draw.points += [point(1e-2, 2000, 1e-4, "bosh3"), point(1.0, 900, 0.1, "gradient descent")]
    found = {criterion.what: criterion for criterion in criteria([draw])}
    values = {what: list(c.values.values()) for what, c in found.items() if c.values}
    assert values["rkc2 against bosh3 at error 0.005, gradients"] == [pytest.approx(1 / 20)]
    assert found["rkc2 against bosh3 at error 0.005, gradients"].passed
    descent = found["rkc2 at error 0.005 against gradient descent at 1/sharpness, gradients"]
    assert descent.values == {"hi 0": pytest.approx(1 / 9)}
    assert descent.passed is False
    (work,) = values["rkc2, stages over sqrt(1.54 * 1.2 * K * Lambda)"]
    assert work == pytest.approx(80 / np.sqrt(1.54 * 1.2 * 10 * 1000))
    assert values["rkc2, share of rejected steps"] == [pytest.approx(1 / 11)]
    assert values["rkc2, worst error on the way over final"] == [pytest.approx(4)]
    assert values["rkc2, worst error on the way over rtol, all problems"] == [pytest.approx(2)]


def test_what_is_written_is_read(tmp_path):
    draw = Draw("hi", 1, 661, 1000.0, [point(1e-2, 100, 5e-3)], {"tsit5": "at 0.01: no"})
    write(tmp_path / "a" / "b.json", [draw])
    assert read(tmp_path / "a" / "b.json") == [draw]
