"""`auto`: which solver runs when, and that it costs no more than the best of them."""

import logging

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import flat, logistic_scalar, quadratic, relative_errors

import gradflow as gf
from gradflow.flow import run as flow_run
from gradflow.solvers import CountedField, Counter, UnrolledRungeKutta


@pytest.mark.parametrize(
    ("method", "limit"),
    [(diffrax.Heun, 2.0), (diffrax.Bosh3, 2.5127453), (diffrax.Dopri5, 3.3065679)],
)
def test_stability_limit(method, limit):
    """Where the stability polynomial leaves [-1, 1]; also seen in steps of a decay."""
    solver = UnrolledRungeKutta(method())
    assert solver.stability_limit == pytest.approx(limit, rel=1e-6)
    growth = []
    for rate in (0.999 * limit, 1.001 * limit):
        term = diffrax.ODETerm(lambda t, y, args, rate=rate: -rate * y)
        zero, one = jnp.asarray(0.0), jnp.asarray(1.0)
        slope = solver.init(term, zero, one, one, None)
        growth.append(abs(float(solver.step(term, zero, one, one, None, slope, False)[0])))
    assert growth[0] < 1 < growth[1]


def names(flow):
    return [leg["solver"] for leg in flow.stats["legs"]]


@pytest.mark.parametrize("rtol", [1e-2, 1e-4, 1e-6])
def test_stiff(rtol):
    """A stiff quadratic: a few explicit steps, then stabilised ones; within twice the best."""
    problem, start, solution = quadratic(np.geomspace(1e-1, 3e3, 20))
    flow = gf.solve(problem, t1=30.0, rtol=rtol, observables={"flat": flat})
    assert names(flow)[-1] == "rkc2"
    assert flow.stats["solver"] == " and ".join(dict.fromkeys(names(flow)))
    errors = relative_errors(flow["flat"][1:], solution(flow.time[1:]), start)
    assert errors.max() <= 10 * rtol
    best = min(
        gf.solve(problem, t1=30.0, rtol=rtol, solver=name).stats["gradient_evaluations"]
        for name in ("bosh3", "tsit5", "rkc2")
    )
    assert flow.stats["gradient_evaluations"] <= 2 * best


def test_not_stiff():
    """A flow whose steps grow with t stays with the explicit method, and pays nothing for it."""
    problem, _, _ = logistic_scalar()
    auto = gf.solve(problem, t1=1e3, rtol=1e-4)
    fixed = gf.solve(problem, t1=1e3, rtol=1e-4, solver="bosh3")
    assert names(auto) == ["bosh3"]
    assert auto.stats["gradient_evaluations"] == fixed.stats["gradient_evaluations"]


def relaxing(until):
    """y' = -k (y - log(1 + t)) + 1 / (1 + t) with k = 1000 until a given time, then 1/100."""

    def field(t, y, data):
        k = jnp.where(t < until, 1000.0, 0.01)
        return -k * (y - jnp.log1p(t)) + 1 / (1 + t)

    return gf.Problem(vector_field=field, params=jnp.asarray([2.0, 1.5]))


def test_there_and_back():
    """Stiff for a while: the legs follow, add up, and meet."""
    flow = gf.solve(relaxing(20.0), t1=60.0, rtol=1e-3)
    legs = flow.stats["legs"]
    assert names(flow) == ["bosh3", "rkc2", "bosh3"]
    assert legs[0]["from"] == 0
    assert legs[-1]["to"] == flow.final_time == 60
    assert [leg["to"] for leg in legs[:-1]] == [leg["from"] for leg in legs[1:]]
    assert 20 < legs[1]["to"] < 40
    for key in ("accepted", "rejected", "gradient_evaluations"):
        assert sum(leg[key] for leg in legs) == flow.stats[key]
    np.testing.assert_allclose(flow.final_params, np.log1p(60.0), rtol=1e-2)


def test_evaluations_are_counted():
    """Those of both solvers, of every look at the sharpness, and of the changes between them."""
    counter = Counter()
    problem = relaxing(20.0)
    counted = CountedField(problem.vector_field, counter)
    again = gf.Problem(vector_field=counted, params=problem.params)
    flow = gf.solve(again, t1=60.0, rtol=1e-3)
    assert names(flow) == ["bosh3", "rkc2", "bosh3"]
    assert flow.stats["gradient_evaluations"] == counter.read()


def test_where_it_looks_changes_nothing(monkeypatch):
    """Steps and values do not depend on how often the host looks in, changes of solver included."""
    long = gf.solve(relaxing(5.0), t1=10.0, rtol=1e-3)
    monkeypatch.setattr(flow_run, "_CHUNK_SECONDS", 0.0)
    short = gf.solve(relaxing(5.0), t1=10.0, rtol=1e-3)
    assert long.stats["legs"] == short.stats["legs"]
    np.testing.assert_array_equal(long.final_params, short.final_params)
    np.testing.assert_array_equal(long["distance"], short["distance"])


def test_cancelled_between_two_legs():
    """A run may end where a solver would take over."""
    first = gf.solve(relaxing(20.0), t1=60.0, rtol=1e-3).stats["legs"][0]
    seen = []

    def cancelled():
        return seen[-1].time >= first["to"]

    flow = gf.solve(relaxing(20.0), t1=60.0, rtol=1e-3, progress=seen.append, cancelled=cancelled)
    assert flow.result == "cancelled"
    assert flow.time[-1] == flow.final_time == first["to"]


def test_a_second_run_compiles_nothing(caplog):
    """Other values of the same shapes: both solvers and the change between them are reused."""
    problem, _, _ = quadratic([300.0, 1.0, 0.1], seed=0)
    gf.solve(problem, t1=10.0, rtol=1e-3)
    other, _, _ = quadratic([500.0, 2.0, 0.3], seed=1)
    with jax.log_compiles(True), caplog.at_level(logging.WARNING):
        again = gf.solve(other, t1=8.0, rtol=2e-3)
    assert names(again) == ["bosh3", "rkc2"]
    assert not [r for r in caplog.records if "Compiling" in r.getMessage()]


def test_eigenvalues_off_the_real_axis():
    """A field that turns as it decays is nothing for a stabilised method: no harm is done."""
    turning = jnp.asarray([[-1.0, -200.0], [200.0, -1.0]])

    def field(t, y, data):
        return jnp.concatenate([turning @ y[:2], -0.1 * y[2:]])

    start = np.array([0.1, 0.0, 1.0])
    problem = gf.Problem(vector_field=field, params=jnp.asarray(start))
    errors, evaluations = [], []
    for solver in ("auto", "bosh3"):
        flow = gf.solve(problem, t1=20.0, rtol=1e-3, solver=solver, observables={"flat": flat})
        t = flow.time[1:]
        fast = 0.1 * np.exp(-t)
        turned = fast * np.cos(200 * t), fast * np.sin(200 * t)
        exact = np.stack([*turned, np.exp(-0.1 * t)], axis=1)
        errors.append(relative_errors(flow["flat"][1:], exact, start).max())
        evaluations.append(flow.stats["gradient_evaluations"])
    assert errors[0] <= 1.2 * errors[1]
    assert evaluations[0] <= 2 * evaluations[1]
