"""The compiled loop against diffrax's own, and what it counts and records."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import flat, quadratic

import gradflow as gf
from gradflow.flow import run as flow_run
from gradflow.solvers import DistanceController, UnrolledRungeKutta


@pytest.mark.parametrize("method", [diffrax.Bosh3, diffrax.Tsit5, diffrax.Dopri8])
def test_the_steps_are_diffeqsolves(method):
    """The same solver and controller in `diffrax.diffeqsolve`: the same steps and states."""
    problem, *_ = quadratic([0.3, 0.7, 1.0, 1.5])
    times = np.linspace(0.0, 4.0, 23)
    ours = gf.solve(
        problem,
        t1=4.0,
        rtol=1e-5,
        solver=method(),
        observables={"flat": flat},
        save=gf.Explicit(times=times.tolist()),
    )
    gradient = jax.grad(problem.loss)
    theirs = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, data: jax.tree.map(jnp.negative, gradient(y, data))),
        UnrolledRungeKutta(method()),
        0.0,
        4.0,
        None,
        problem.params,
        args=problem.data,
        saveat=diffrax.SaveAt(ts=jnp.asarray(times)),
        stepsize_controller=DistanceController(jnp.asarray(1e-5)),
    )
    assert ours.stats["accepted"] == theirs.stats["num_accepted_steps"]
    assert ours.stats["rejected"] == theirs.stats["num_rejected_steps"]
    states = jax.vmap(lambda y: flat(0.0, y, None))(theirs.ys)
    # Its coefficients are large and of both signs: what order a sum is taken in shows.
    rounding = 1e-10 if method is diffrax.Dopri8 else 1e-11
    np.testing.assert_allclose(ours["flat"], states, rtol=rounding, atol=rounding / 10)


def test_cutting_a_run_changes_no_bit(monkeypatch):
    problem, *_ = quadratic([0.1, 1.0, 6.0])
    runs = []
    for seconds in (0.0, 1e-4, 10.0):  # one attempt a chunk, a few, all at once
        monkeypatch.setattr(flow_run, "_CHUNK_SECONDS", seconds)
        chunks = []
        runs.append(gf.solve(problem, t1=4.0, observables={"flat": flat}, progress=chunks.append))
        if seconds == 0:
            assert len(chunks) > 10
    for run in runs[1:]:
        assert run.stats["gradient_evaluations"] == runs[0].stats["gradient_evaluations"]
        for name in run:
            np.testing.assert_array_equal(run[name], runs[0][name])


@pytest.mark.parametrize("solver", ["heun", "bosh3", "tsit5", "dopri8", diffrax.Ralston()])
def test_reported_evaluations_are_those_made(solver):
    """Counted on the host, from inside the loss, refused steps included."""
    calls = []

    @jax.custom_vjp
    def counted(x):
        return x

    def forward(x):
        return x, None

    def backward(_, cotangent):
        jax.debug.callback(lambda: calls.append(1))
        return (cotangent,)

    counted.defvjp(forward, backward)

    def loss(params, data):
        # An even slope ends at a stiff wall: the steps that run into it are refused.
        x = counted(params)
        return jnp.sum(x + jnp.where(x < 1, 500.0, 0.0) * (1 - x) ** 2)

    flow = gf.solve(gf.Problem(loss, jnp.asarray([3.0, 2.0])), t1=4.0, rtol=1e-3, solver=solver)
    jax.effects_barrier()
    assert flow.stats["rejected"] > 0
    assert len(calls) == flow.stats["gradient_evaluations"]


def test_jacobians_are_counted():
    """An implicit step takes the Jacobian twice, each of n Hessian-vector products at two."""
    evaluations = []
    for n in (2, 12):
        problem = gf.Problem(lambda p, d: 0.5 * jnp.sum(p**2), jnp.ones(n))
        stats = gf.solve(problem, t1=1.0, rtol=1e-3, solver="kvaerno3").stats
        evaluations.append(stats["gradient_evaluations"] / (stats["accepted"] + stats["rejected"]))
    assert evaluations[1] - evaluations[0] == pytest.approx(2 * 2 * 10, rel=0.05)


def test_a_problem_at_rest():
    """No slope at all: it ends, having gone nowhere."""
    flow = gf.solve(gf.Problem(lambda p, d: jnp.sum(p**2), jnp.zeros(3)), t1=5.0)
    assert flow.result == "end_time"
    assert flow["distance"].max() == 0
    assert flow.stats["rejected"] == 0


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_first_step_finds_its_scale(scale):
    """Time and parameters may be of any size: the count of evaluations does not change."""
    counts = []
    for s in (1.0, scale):
        problem = gf.Problem(lambda p, d: 0.5 * d * jnp.sum(p**2), jnp.ones(3) / s, jnp.asarray(s))
        flow = gf.solve(problem, t1=5.0 / s)
        counts.append(flow.stats["gradient_evaluations"])
        assert flow.stats["rejected"] == 0
        np.testing.assert_allclose(flow.final_params, np.exp(-5) / s, rtol=1e-2)
    assert abs(counts[0] - counts[1]) <= 3
