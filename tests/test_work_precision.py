"""The benchmark's own arithmetic: reading a diagram, counting gradients, steps of fixed size."""

import json

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from extensisq import SSV2stab
from extensisq.sommeijer import nfesig
from scipy.integrate import RK45, solve_ivp

import gradflow as gf
from benchmarks.families.fidelity import overview, promised
from benchmarks.families.stiffness import _fits
from benchmarks.families.work_precision.criteria import criteria
from benchmarks.families.work_precision.draw import Draw, Point
from benchmarks.families.work_precision.matched import around, cost_at, evaluations
from benchmarks.families.work_precision.measure import Budget, measure
from benchmarks.families.work_precision.tables import against_peers
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
    arguments = [jnp.asarray(x) for x in (T1, setting.times, 1e-3, 1e-3)]
    solution = by_diffrax._integrate(method, setting.problem, *arguments, 1000, counter)
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
    methods = [
        Method("slow", slow, rungs),
        Method("failing", failing, rungs),
        Method("dense", slow, rungs, largest=2),
    ]
    draw = measure(setting, methods, Budget(repeats=2, limit=0.5), lambda line: None)
    assert [(p.rung, p.evaluations, p.seconds) for p in draw.points] == [(1e-1, 7, [1.0, 1.0])]
    error = 0.1 * np.linalg.norm(exact(T1)) / np.linalg.norm(exact(T1) - 1)
    assert draw.points[0].final == pytest.approx(error)
    assert draw.failures == {
        "slow": "1 s at 0.1: none tighter",
        "failing": "failed at 0.1: no; failed at 0.01: no; failed at 0.001: no",
        "dense": "not run above 2 parameters",
    }


def test_criteria_name_what_is_worst():
    line = Criterion("a against b", 0.5, {"hi 0": 0.4, "mlp 0": 0.6})
    assert line.passed is False
    assert str(line) == "FAIL  a against b: at most 0.5; 0.4 to 0.6 (mlp 0), 1 of 2 above"
    assert "not measured" in str(Criterion("a", 1, {}))


def test_criteria_are_computed_from_the_runs():
    """hi is stiff. At 1e-2 auto takes .5 s, at 1e-3 1 s, and nothing of it is below that."""
    draw = Draw("hi", 0, 661, stiffness=1000.0)
    draw.points += [point(1e-2, 100, 5e-3, estimator=20, worst=2e-2, rejected=1)]
    draw.points += [
        point(1e-2, 50, 1e-2, "auto", seconds=[0.5], accepted=None),
        point(1e-3, 300, 1e-3, "auto", seconds=[1.0], accepted=None),
        point(1e-2, 1000, 1e-5, "diffrax Tsit5", seconds=[4.0]),
        point(1e-2, 90, 1e-2, "extensisq SSV2stab", seconds=[2.0]),
        point(1e-3, 200, 1e-3, "kvaerno3-cg", seconds=[3.0], worst=1e-2),
    ]
    on_the_way = next(c for c in criteria([draw]) if "whole run" in c.what and "CG" in c.what)
    assert on_the_way.values == {
        "hi 0, 0.01, extensisq SSV2stab": pytest.approx(1 / 4),
        "hi 0, 0.01, kvaerno3-cg": pytest.approx(1 / 6),
    }
    at_the_end = [c for c in criteria([draw]) if "whole run" not in c.what]
    found = {criterion.what.split(",")[0]: criterion for criterion in at_the_end}
    best = found["auto against the best peer"]
    assert best.values == {
        "hi 0, 0.01": pytest.approx(1 / 4),  # SSV2stab
        "hi 0, 0.001": pytest.approx(1 / 4),  # Tsit5, which is more accurate than asked
        "hi 0, 0.0001": np.inf,
        "hi 0, 1e-05": np.inf,
    }
    assert best.passed is False
    assert found["auto against other peers on stiff problems"].values == {
        "hi 0, 0.01, diffrax Tsit5": pytest.approx(1 / 8),
        "hi 0, 0.001, diffrax Tsit5": pytest.approx(1 / 4),
        "hi 0, 0.0001, diffrax Tsit5": np.inf,
        "hi 0, 1e-05, diffrax Tsit5": np.inf,
    }
    assert found["auto against Kvaerno with CG and SSV2stab on stiff problems"].values == {
        "hi 0, 0.01, extensisq SSV2stab": pytest.approx(1 / 4),
        "hi 0, 0.01, kvaerno3-cg": pytest.approx(1 / 6),
        "hi 0, 0.001, kvaerno3-cg": pytest.approx(1 / 3),
    }
    single = found["auto against our best single solver"]
    assert single.values["hi 0, 0.001"] == pytest.approx(300 / 200)
    values = {what: list(c.values.values()) for what, c in found.items()}
    (work,) = values["rkc2"]
    assert work == pytest.approx(80 / np.sqrt(1.54 * 1.2 * 10 * 1000))
    assert values["rkc2 against SSV2stab"] == []  # rkc2 has one run, on one side of any error
    shares = next(c for c in criteria([draw]) if "rejected" in c.what)
    assert shares.values == {"rkc2, hi 0, rtol 0.01": pytest.approx(1 / 11)}
    rises = next(c for c in criteria([draw]) if "on the way over final" in c.what)
    assert rises.values["rkc2, hi 0, rtol 0.01"] == pytest.approx(4)
    table = against_peers([draw])
    assert ("hi 0", "at the end", "0.001", 1.0, "diffrax Tsit5", 4.0) in [r[:6] for r in table.rows]


def test_promises_are_held_against_tolerances():
    draw = Draw("hi", 0, 661, 1000.0)
    draw.points += [
        point(1e-2, 9, 1e-3, worst=2e-2),
        point(1e-4, 9, 1e-5, worst=5e-5),
        point(1e-3, 9, 0.1, "diffrax Tsit5"),
        point(1.0, 9, 0.1, "gradient descent"),  # a step, no tolerance
    ]
    ratios = promised([draw])
    assert ratios == {
        "rkc2": {"hi, rtol 0.01": pytest.approx(2), "hi, rtol 0.0001": pytest.approx(0.5)},
        "diffrax Tsit5": {"hi, rtol 0.001": pytest.approx(100)},
    }
    first, second = overview(ratios, {"rkc2"}).rows
    assert first[:3] == ("rkc2", "gradflow", 2)
    assert first[3:] == (pytest.approx(1.25), pytest.approx(2), "hi, rtol 0.01")
    assert second[:3] == ("diffrax Tsit5", "peer", 1)


def test_slopes_are_those_of_power_laws():
    runs = [("rkc2", at, round(1e3 * at**0.5), 1 / at, [0.1 * at]) for at in (1e2, 1e4, 1e6)]
    slope, deviation, seconds, _, error = _fits(runs)["rkc2"]
    assert error == 1e-2
    assert slope == pytest.approx(0.5)
    assert deviation < 1e-6
    assert seconds == pytest.approx(1.0)


def test_a_draw_is_kept_in_plain_types():
    draw = Draw("hi", 1, 661, 1000.0, [point(1e-2, 100, 5e-3)], {"tsit5": "at 0.01: no"})
    assert Draw.of(json.loads(json.dumps(draw.plain()))) == draw
