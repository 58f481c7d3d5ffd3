"""Balanced layers: that the flow conserves them, what breaks it, and how it is recorded."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layered import (
    CASES,
    at,
    cross_entropy,
    decayed,
    diagonals,
    drift_by_hand,
    identity,
    mean_squared,
    mlp,
    problem_of,
    relu,
    sides,
)
from numpy.linalg import norm

import gradflow as gf
from gradflow.experiment import Outcome, summarise
from gradflow.invariants import automatic, balancedness, gram_change, relative_drift
from gradflow.observables import recorded

EVERY = pytest.mark.parametrize("name", CASES)


@pytest.fixture(params=["float64", "float32"])
def precision(request):
    jax.config.update("jax_enable_x64", request.param == "float64")
    yield request.param
    jax.config.update("jax_enable_x64", True)


# What is conserved.


@pytest.mark.parametrize("loss", [mean_squared, cross_entropy])
@EVERY
def test_its_derivative_along_the_gradient_is_zero(precision, name, loss):
    problem = problem_of(CASES[name].model, loss)
    assert problem.dtype == precision
    slope = jax.tree.map(jnp.negative, jax.grad(problem.loss)(problem.params, problem.data))
    for pair, _, whole in CASES[name].pairs:
        _, rates = jax.jvp(lambda p, pair=pair: sides(problem.model(p), pair),
                           (problem.params,), (slope,))  # fmt: skip
        left, right = rates if whole else diagonals(rates)
        size = norm(left) + norm(right)
        assert size > 1e-3
        assert norm(left - right) <= 20 * jnp.finfo(precision).eps * size
        if not whole:  # nor is more claimed than there is
            left, right = rates
            assert norm(left - right) > 1e-2 * size


@cache
def flow_of(name, loss, rtol):
    return gf.solve(problem_of(CASES[name].model, loss), t1=5.0, rtol=rtol)


@pytest.mark.parametrize(
    ("name", "loss", "rtol"),
    [
        ("linear", mean_squared, 1e-3),
        ("linear", mean_squared, 1e-6),
        ("linear", cross_entropy, 1e-6),
        ("relu", mean_squared, 1e-3),
        ("relu", cross_entropy, 1e-5),
        ("leaky", cross_entropy, 1e-3),
        ("leaky", mean_squared, 1e-5),
        ("scan", mean_squared, 1e-3),
        ("sequential", mean_squared, 1e-4),
        ("inside", mean_squared, 1e-3),
    ],
)
def test_the_flow_conserves_it(name, loss, rtol):
    flow, case = flow_of(name, loss, rtol), CASES[name]
    found = flow["balancedness"]
    labels = [label for _, label, _ in case.pairs]
    assert flow.variables["balancedness"].dims == ("time_balancedness", "layer")
    assert flow.coords["layer"].tolist() == labels
    assert found.shape == (20, len(labels))
    assert flow.times("balancedness")[[0, -1]].tolist() == [0, 5]
    assert np.all(found[0] == 0)
    assert 0 < found.max() <= 10 * rtol
    problem = problem_of(case.model, loss)
    for i, (pair, label, whole) in enumerate(case.pairs):
        expected = drift_by_hand(flow.final_params, problem.model(problem.params), pair, whole)
        assert flow.sel("balancedness", layer=label)[-1] == pytest.approx(expected, abs=1e-14)
        assert found[-1, i] == flow.sel("balancedness", layer=label)[-1]


def test_float32(precision):
    problem = problem_of(CASES["relu"].model)
    flow = gf.solve(problem, t1=5.0, rtol=1e-3)
    assert flow["balancedness"].dtype == precision
    assert flow["balancedness"].max() <= 1e-2


# What breaks it.


@pytest.mark.parametrize("name", ["linear", "leaky", "sequential"])
def test_steps_of_descent_break_it_in_proportion_to_the_step(name):
    problem, case = problem_of(CASES[name].model), CASES[name]
    gradient = jax.jit(jax.grad(problem.loss))
    drifts = []
    for count in (100, 200, 400):
        arrays, step = problem.params, 1.0 / count
        for _ in range(count):
            slope = gradient(arrays, problem.data)
            arrays = jax.tree.map(lambda p, g, h=step: p - h * g, arrays, slope)
        drifts.append(at(problem, arrays))
        model, start = problem.model(arrays), problem.model(problem.params)
        expected = [drift_by_hand(model, start, pair, whole) for pair, _, whole in case.pairs]
        assert drifts[-1] == pytest.approx(np.array(expected), rel=1e-9)
    assert np.all(drifts[0] > 1e-4)
    np.testing.assert_allclose(np.divide(drifts[:-1], drifts[1:]), 2, rtol=0.1)


def test_weight_decay_breaks_it():
    flow = gf.solve(problem_of(CASES["relu"].model, decayed), t1=5.0, rtol=1e-4)
    assert np.all(flow["balancedness"][-1] > 1e-2)


def test_decay_alone_is_seen_as_it_is():
    """All weights shrink by a factor f: |G| (1 - f^2) over the sides' own (1 - f^2)."""
    problem = problem_of(CASES["linear"].model)
    arrays = jax.tree.map(lambda x: x / 2, problem.params)
    model = problem.model(problem.params)
    for value, (pair, _, _) in zip(at(problem, arrays), CASES["linear"].pairs, strict=True):
        left, right = sides(model, pair)
        assert value == pytest.approx(norm(left - right) / (norm(left) + norm(right)))


def test_little_cancels():
    """A change of 1e-9 of the weights is measured to seven digits, not to none."""
    rng = np.random.default_rng(0)
    then, change = rng.normal(size=(2, 6, 4))
    now = then + 1e-9 * change
    exact = (now - then).T @ then + then.T @ (now - then) + (now - then).T @ (now - then)
    np.testing.assert_allclose(gram_change(now, then), exact, rtol=1e-9, atol=1e-16)
    assert relative_drift(jnp.asarray(exact), gram_change(now, then)) < 1e-9
    zero = jnp.zeros(3)
    assert relative_drift(zero, zero) == 0
    assert relative_drift(zero, zero + 1) == 1


# How it is recorded.


def test_it_takes_save_times_like_any_other():
    problem = problem_of(CASES["relu"].model)
    flow = gf.solve(problem, t1=1.0, save_each={"balancedness": gf.Explicit(times=(0.0, 0.5))})
    assert flow.times("balancedness").tolist() == [0, 0.5]
    tanh = problem_of(mlp(jnp.tanh))
    with pytest.raises(ValueError, match="save_each: no observable 'balancedness'"):
        gf.solve(tanh, t1=1.0, save_each={"balancedness": gf.Linear()})
    assert "balancedness" not in gf.solve(tanh, t1=1.0)


def test_a_users_own_names_come_first():
    problem = problem_of(CASES["relu"].model)
    asked = automatic(problem)
    names = [o.name for o in recorded(problem, automatic=asked)]
    assert names[-1] == "balancedness"
    own = gf.Observable("own", lambda s: jnp.arange(3.0), (("layer", ("a", "b", "c")),))
    for extra in ({"balancedness": lambda t, p, d: t}, {"layer": lambda t, p, d: t}, [own]):
        assert len(recorded(problem, extra, automatic=asked)) == len(names)
    flow = gf.solve(problem, t1=1.0, observables={"balancedness": lambda t, params, data: 2 * t})
    np.testing.assert_array_equal(flow["balancedness"], 2 * flow.time)
    assert gf.solve(problem, t1=1.0, observables=[own]).coords["layer"].tolist() == list("abc")
    # Who asks for it twice by hand is told.
    with pytest.raises(ValueError, match="two observables are called 'balancedness'"):
        recorded(problem, [*asked, *asked])
    assert gf.solve(problem, t1=1.0, observables=asked)["balancedness"].shape == (20, 2)


def test_the_same_model_is_the_same_to_the_compiler():
    one, other = (balancedness(problem_of(mlp(relu))) for _ in range(2))
    assert one == other
    assert hash(one.function) == hash(other.function)
    assert one.function != balancedness(problem_of(mlp(identity))).function


def test_the_summary_has_the_worst():
    flow = flow_of("relu", mean_squared, 1e-3)
    invariants = summarise(gf.tasks.Digits(), Outcome(flow, None))["invariants"]
    assert invariants["balancedness"] == flow["balancedness"].max()
    assert set(invariants) == {"energy_identity", "balancedness"}
