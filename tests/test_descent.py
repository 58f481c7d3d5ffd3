"""`descend`: closed forms, optax by hand, times, divergence, minibatches, mistakes, compilation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import flat, quadratic

import gradflow as gf
from gradflow.descent import StabilityWarning, run
from gradflow.descent.batches import Batches

ALL = {"observables": {"flat": flat}}


def network_losses(params, data):
    inputs, targets = data
    return (jnp.tanh(inputs @ params["in"]) @ params["out"] - targets) ** 2


def network(dtype=np.float64, **kept):
    rng = np.random.default_rng(1)
    params = {"in": rng.normal(size=(3, 4)), "out": rng.normal(size=4) / 2}
    data = (rng.normal(size=(20, 3)), rng.normal(size=20))
    params, data = jax.tree.map(lambda x: x.astype(dtype), (params, data))
    return gf.Problem(sample_loss=network_losses, params=params, data=data, **kept)


def every_step(steps):
    return gf.Linear(count=steps + 1)


def heavy(rate):
    return optax.sgd(rate, momentum=0.9)


# What it computes.


@pytest.mark.parametrize("made", [False, True])
def test_the_closed_form(made):
    """After k steps (1 - eta lambda)^k is left along each eigenvector."""
    eigenvalues, eta, steps = np.array([0.01, 0.3, 1.0, 4.0, 19.0]), 0.1, 60
    problem, start, _ = quadratic(eigenvalues)
    matrix, minimum = (np.asarray(x) for x in problem.data)
    optimiser = optax.sgd(eta) if made else optax.sgd
    descent = gf.descend(
        problem, optimiser, learning_rate=eta, steps=steps, save=every_step(steps), **ALL
    )
    values, vectors = np.linalg.eigh(matrix)
    left = (1 - eta * values) ** np.arange(steps + 1)[:, None] * (vectors.T @ (start - minimum))
    np.testing.assert_allclose(descent["flat"], minimum + left @ vectors.T, rtol=0, atol=1e-13)
    np.testing.assert_allclose(descent["loss"], (left**2) @ values / 2, rtol=1e-11)
    assert descent.stats["gradient_evaluations"] == steps
    # The rows, and the sharpness that the warning asks for.
    assert descent.stats["observable_evaluations"] == steps + 1 + 1 + 2 * len(eigenvalues)


OPTIMISERS = {
    "sgd": optax.sgd,
    "momentum": heavy,
    "nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "adam": optax.adam,
    "rmsprop": optax.rmsprop,
    "schedule": lambda rate: optax.sgd(optax.exponential_decay(rate, 5, 0.5)),
    "weight decay": lambda rate: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(rate)),
    "polyak": optax.polyak_sgd,  # needs the value of the loss
    "lbfgs": lambda rate: optax.lbfgs(rate, linesearch=None),
}


def by_hand(problem, optimiser, steps):
    """The parameters after each step, by a Python loop."""
    optimiser = optax.with_extra_args_support(optimiser)

    @jax.jit
    def step(params, memory):
        loss, gradient = jax.value_and_grad(problem.loss)(params, problem.data)
        change, memory = optimiser.update(gradient, memory, params, value=loss)
        return optax.apply_updates(params, change), memory

    params, rows = problem.params, [flat(0.0, problem.params, None)]
    with jax.numpy_dtype_promotion("standard"):  # not all of optax runs under the strict one
        memory = optimiser.init(params)
        for _ in range(steps):
            params, memory = step(params, memory)
            rows.append(flat(0.0, params, None))
    return np.stack(rows)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_against_a_loop_by_hand(name):
    problem, eta, steps, make = network(), 0.02, 25, OPTIMISERS[name]
    # A schedule made of a Python number rounds it to float32.
    for optimiser, same in ((make, make(jnp.asarray(eta, jnp.float64))), (make(eta), make(eta))):
        expected = by_hand(problem, same, steps)
        found = gf.descend(
            problem, optimiser, learning_rate=eta, steps=steps, save=every_step(steps), **ALL
        )
        assert found["step"].tolist() == list(range(steps + 1))
        # A few roundings, which steps that follow one another pass on.
        np.testing.assert_allclose(found["flat"], expected, rtol=0, atol=1e-13)
        assert np.abs(expected[-1] - expected[0]).max() > 1e-3


def test_what_is_recorded_is_what_it_is_at_those_parameters():
    problem, eta = network(), 0.05
    descent = gf.descend(
        problem,
        heavy,
        learning_rate=eta,
        steps=40,
        save=gf.Linear(count=9),
        observables={"flat": flat, "clock": lambda t, params, data: t * params["out"][0]},
    )
    assert descent.result == "end_time"
    assert descent["step"].tolist() == list(range(0, 41, 5))
    assert {"dissipated", "energy_residual", "flow_energy"}.isdisjoint(descent)
    rows = descent["flat"]
    np.testing.assert_array_equal(rows[0], flat(0.0, problem.params, None))
    np.testing.assert_array_equal(rows[-1], flat(0.0, descent.final_params, None))
    like = {"in": problem.params["in"], "out": problem.params["out"]}
    _, unravel = jax.flatten_util.ravel_pytree(like)
    for i, row in enumerate(rows):
        params = unravel(jnp.asarray(row))
        loss, gradient = jax.value_and_grad(problem.loss)(params, problem.data)
        np.testing.assert_allclose(descent["loss"][i], loss, rtol=1e-13)
        norm = np.linalg.norm(flat(0.0, gradient, None))
        np.testing.assert_allclose(descent["grad_norm"][i], norm, rtol=1e-12)
        np.testing.assert_allclose(
            descent["distance"][i], np.linalg.norm(row - rows[0]), rtol=1e-12
        )
        clock = descent.time[i] * params["out"][0]
        np.testing.assert_allclose(descent["clock"][i], clock, rtol=1e-13)


# When it is.


def test_times_are_those_of_whole_steps():
    """Each save time's nearest step, once, at that step's own time."""
    eta, problem = 0.03, network()
    times = [0.0, 0.1, 0.2, 0.21, 0.22, 0.5, 1.0]
    descent = gf.descend(
        problem, heavy, learning_rate=eta, t1=1.0, save=gf.Explicit(times=times), **ALL
    )
    assert descent["step"].tolist() == [0, 3, 7, 17, 33]
    assert descent.time.tolist() == [eta * step for step in descent["step"].tolist()]
    assert descent.variables["step"].dims == ("time",)
    assert descent.final_time == eta * 33
    assert descent.stats["steps"] == descent.stats["gradient_evaluations"] == 33
    # The same number of steps by itself; a save time at its very end, as it would be written.
    same = gf.descend(problem, heavy, learning_rate=eta, steps=33, save=gf.Linear(count=2), **ALL)
    np.testing.assert_array_equal(same["flat"][-1], descent["flat"][-1])
    end = gf.descend(problem, heavy, learning_rate=0.29, steps=100, save=gf.Explicit(times=[29.0]))
    assert end["step"].tolist() == [100]


@pytest.mark.parametrize(
    ("eta", "t1", "steps"),
    [(0.01, 300.0, 30_000), (0.1, 0.3, 3), (0.1, 0.7, 7), (0.3, 1.0, 3), (0.4, 1, 2), (1, 1.0, 1)],
)
def test_the_last_whole_step(eta, t1, steps):
    from gradflow.descent import whole_steps

    assert whole_steps(eta, t1) == (eta, steps)
    assert whole_steps(np.float64(eta), steps=np.int64(steps)) == (eta, steps)


def test_save_times_of_single_observables():
    problem = network()
    descent = gf.descend(
        problem,
        heavy,
        learning_rate=0.1,
        t1=2.0,
        save=gf.Linear(count=5),
        save_each={"flat": gf.Explicit(times=[0.31, 1.9])},
        **ALL,
    )
    assert descent.time.tolist() == [0.1 * step for step in (0, 5, 10, 15, 20)]
    assert descent.times("flat").tolist() == [0.1 * 3, 0.1 * 19]
    every = by_hand(problem, heavy(0.1), 20)
    np.testing.assert_allclose(descent["flat"], every[[3, 19]], rtol=0, atol=1e-13)


@pytest.mark.parametrize("most", [1, 7])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_where_chunks_end_changes_no_bit(monkeypatch, most, batch_size):
    key = jax.random.key(3)

    def descend():
        return gf.descend(
            network(), optax.adam, learning_rate=0.05, steps=50, batch_size=batch_size, key=key,
            save=gf.Explicit(times=[0.0, 1.3, 2.5]), **ALL,
        )  # fmt: skip

    whole = descend()
    monkeypatch.setattr(run, "_MOST", most)
    chunked = descend()
    assert list(whole) == list(chunked)
    for name in whole:
        np.testing.assert_array_equal(whole[name], chunked[name])
    assert whole.stats["gradient_evaluations"] == chunked.stats["gradient_evaluations"] == 50


def test_progress_and_cancelling(monkeypatch):
    monkeypatch.setattr(run, "_MOST", 4)
    reports, looked = [], {"learning_rate": 0.1, "save": gf.Explicit(times=[0.0, 1.5, 100.0])}
    cancelled = gf.descend(
        network(), heavy, steps=1000, progress=reports.append,
        cancelled=lambda: len(reports) >= 5, **looked,
    )  # fmt: skip
    assert cancelled.result == "cancelled"
    assert len(reports) == 5
    assert [r.accepted for r in reports] == [8, 12, 15, 19, 23]
    last = reports[-1]
    assert (last.time, last.t1, last.step) == (0.1 * 23, 0.1 * 1000, 0.1)
    assert (last.rejected, last.gradient_evaluations, last.fraction) == (0, 23, 0.023)
    # As it was last recorded, at step 15; the series ends where the run does.
    assert cancelled["step"].tolist() == [0, 15, 23]
    assert last.loss == cancelled["loss"][1]
    assert cancelled.final_time == cancelled.time[-1] == last.time
    assert cancelled.stats["steps"] == 23


# Where it diverges.


def falling(params, data):
    return jnp.where(params > 1, jnp.nan, -params)


def saturating(params, data):
    return jnp.tanh(params)


def pushed(rate):
    """Grows without end, whatever the loss does."""
    return optax.chain(optax.sgd(rate), optax.add_decayed_weights(1.0))


def last_finite(problem, optimiser, most):
    """The last step at which loss, gradient and parameters are finite, by a Python loop."""
    params = before = problem.params
    memory = optimiser.init(params)
    gradient_of = jax.jit(jax.value_and_grad(problem.loss))
    for k in range(most):
        loss, gradient = gradient_of(params, problem.data)
        if not np.isfinite([float(loss), *flat(0, (params, gradient), None).tolist()]).all():
            return k - 1, before
        before = params
        change, memory = optimiser.update(gradient, memory, params)
        params = optax.apply_updates(params, change)
    raise AssertionError("it does not diverge")


DIVERGING = {
    "too long a step": (lambda p, d: 1.5 * p**2, 1.0, heavy, 1.5),
    "a wall": (falling, 0.0, optax.sgd, 0.03),
    "a loss that saturates": (saturating, 1.0, pushed, 0.1),
}


@pytest.mark.parametrize("most", [1, 7, None])
@pytest.mark.parametrize("steps", [(0, 20, 9000), (20, 9000)])
@pytest.mark.parametrize("name", DIVERGING)
def test_divergence_is_a_result(monkeypatch, name, steps, most):
    """It ends at the last finite step, wherever chunks end and whatever is recorded."""
    loss, start, make, eta = DIVERGING[name]
    problem = gf.Problem(loss, jnp.asarray(start))
    if most is not None:
        monkeypatch.setattr(run, "_MOST", most)
    times = gf.Explicit(times=[eta * step for step in steps])
    descent = gf.descend(problem, make, learning_rate=eta, steps=10_000, save=times, **ALL)
    step, params = last_finite(problem, make(eta), 3000)
    assert descent.result == "diverged"
    assert descent.stats["diverged"]
    assert descent.stats["steps"] == step > 1
    assert descent.final_time == descent.time[-1] == eta * step
    assert descent["step"].tolist() == [*steps[:-1], step]
    assert all(np.isfinite(values).all() for values in descent.values())
    np.testing.assert_allclose(descent.final_params, params, rtol=1e-10)
    np.testing.assert_array_equal(descent["flat"][-1, 0], descent.final_params)
    # Those that found it out, and those that went back to it, are counted too.
    assert descent.stats["gradient_evaluations"] > step


def test_a_plain_step_beyond_stability_diverges_with_a_warning():
    problem, *_ = quadratic([0.5, 1.0, 3.0])
    with pytest.warns(StabilityWarning) as told:
        descent = gf.descend(problem, learning_rate=0.7, steps=30_000)
    assert len(told) == 1
    assert descent.result == "diverged"
    assert np.isfinite(descent["loss"]).all()
    assert descent["loss"][-1] > 1e300


@pytest.mark.parametrize("times", [(0.0, 1.0), (1.0,)])
@pytest.mark.parametrize(
    ("loss", "start"), [(lambda p, d: jnp.log(p), -1.0), (lambda p, d: jnp.sqrt(p), 0.0)]
)
def test_a_start_that_is_not_finite(loss, start, times):
    descent = gf.descend(
        gf.Problem(loss, jnp.asarray(start)), learning_rate=0.1, steps=50,
        save=gf.Explicit(times=list(times)), **ALL,
    )  # fmt: skip
    assert descent.result == "not_finite"
    assert descent.stats["diverged"]
    assert (descent.final_time, descent.stats["steps"]) == (0.0, 0)
    assert descent.final_params == start
    assert len(descent.time) == 0
    assert descent["flat"].shape == (0, 1)


def test_evaluations_are_counted(monkeypatch):
    """Each step's, those made again to find the last finite state, and one for each row."""
    seen = []

    @jax.custom_vjp
    def square(x):
        return jnp.where(x > 1e3, jnp.nan, x**2)

    def backward(kept, pulled):
        jax.debug.callback(lambda: seen.append(1))
        return (2 * kept * pulled,)

    square.defvjp(lambda x: (square(x), x), backward)
    problem = gf.Problem(lambda p, d: square(p), jnp.asarray(1.0))
    for eta, result in ((0.1, "end_time"), (2.5, "diverged")):
        for most in (3, 10**7):
            monkeypatch.setattr(run, "_MOST", most)
            del seen[:]
            descent = gf.descend(problem, heavy, learning_rate=eta, steps=300)
            jax.effects_barrier()
            assert descent.result == result
            stats = descent.stats
            assert stats["observable_evaluations"] >= len(descent.time)
            spent = stats["gradient_evaluations"] + stats["observable_evaluations"]
            assert spent == len(seen)


# Minibatches.


def batch_gradients(problem, batches, count):
    def gradient(key):
        return jax.grad(batches.loss, argnums=1)(problem, problem.params, problem.data, key)

    many = jax.jit(jax.vmap(gradient))(jax.random.split(jax.random.key(7), count))
    return np.concatenate([g.reshape(count, -1) for g in jax.tree.leaves(many)], axis=1)


def test_batches_are_slices_and_unbiased():
    problem = network()
    batches = Batches.of(problem, 6)
    assert (batches.size, batches.count, batches.slices) == (6, 20, True)
    count = 4000
    found = batch_gradients(problem, batches, count)
    whole = batch_gradients(problem, Batches(6, 20, slices=False), count)
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-13)
    full = flat(0.0, jax.grad(problem.loss)(problem.params, problem.data), None)
    deviations = (found.mean(0) - np.asarray(full)) / (found.std(0) / count**0.5)
    assert np.abs(deviations).max() < 4
    # Without replacement: a batch of all samples has no spread.
    assert np.ptp(batch_gradients(problem, Batches.of(problem, 20), 5), axis=0).max() < 1e-14


def test_runs_on_batches():
    problem, steps = network(), 30

    def descend(key, size=4, eta=0.1):
        return gf.descend(
            problem, heavy, learning_rate=eta, steps=steps, save=every_step(steps),
            batch_size=size, key=jax.random.key(key), **ALL,
        )  # fmt: skip

    first, again, other = descend(0), descend(0), descend(1)
    np.testing.assert_array_equal(first["flat"], again["flat"])
    assert np.abs(first["flat"] - other["flat"])[1:].max() > 1e-3
    # All samples in every batch: the loss in another order.
    full = gf.descend(problem, heavy, learning_rate=0.1, steps=steps, save=every_step(steps), **ALL)
    np.testing.assert_allclose(descend(0, size=20)["flat"], full["flat"], rtol=0, atol=1e-12)
    # What is recorded is of the whole loss.
    assert first["loss"][0] == full["loss"][0]
    assert first.stats["gradient_evaluations"] == steps


def normalised(params, x):
    """The mean is of all samples: no sample's loss is its own."""
    return (params @ (x - x.mean(0)).T - 1) ** 2


def with_table(params, data):
    """The table is as long as there are samples, but has no axis of them."""
    x, table = data
    return (x @ table.T @ table @ params) ** 2


def own(params, x):
    return -1.0 - (x @ params) ** 2


@pytest.mark.parametrize(
    ("loss", "start", "slices"),
    [
        (normalised, 1.0, False),
        (normalised, 0.0, False),  # where every loss is the same
        (with_table, 1.0, False),
        (with_table, 0.0, False),
        (own, 1.0, True),  # below zero
        (own, 0.0, True),
    ],
)
def test_which_data_can_be_sliced(loss, start, slices):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3))
    data = (x, rng.normal(size=(8, 3))) if loss is with_table else x
    problem = gf.Problem(sample_loss=loss, params=np.full(3, start), data=data)
    assert Batches.of(problem, 5).slices is slices
    descent = gf.descend(
        problem, optax.sgd, learning_rate=1e-3, steps=1, batch_size=5, key=jax.random.key(0),
        save=every_step(1), **ALL,
    )  # fmt: skip
    # A step goes down the mean of five of the samples' losses, whichever way it is evaluated.
    chosen = jax.random.choice(jax.random.fold_in(jax.random.key(0), 0), 8, (5,), replace=False)
    gradient = jax.grad(lambda p: jnp.mean(loss(p, problem.data)[chosen]))(problem.params)
    expected = problem.params - 1e-3 * gradient
    np.testing.assert_allclose(descent["flat"][1], expected, rtol=0, atol=1e-15)


# Mistakes and warnings.


def vector_problem():
    return gf.Problem(vector_field=lambda t, p, d: -p, params=jnp.ones(2))


def no_samples():
    return quadratic([1.0, 2.0, 3.0])[0]


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"learning_rate": 0}, ValueError, "learning_rate = 0; allowed: a finite number above 0"),
        ({"learning_rate": -0.1}, ValueError, "learning_rate = -0.1"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate = nan"),
        ({"learning_rate": math.inf}, ValueError, "learning_rate = inf"),
        ({"learning_rate": "0.1"}, ValueError, "learning_rate = '0.1'"),
        ({"steps": None, "t1": 0.05}, ValueError, "0.1 is larger than t1 = 0.05.*raise t1"),
        ({"steps": None}, ValueError, "either t1 or steps; got neither"),
        ({"t1": 1.0}, ValueError, "either t1 or steps; got both"),
        ({"steps": 0}, ValueError, "steps = 0; allowed: a whole number from 1"),
        ({"steps": -3}, ValueError, "steps = -3"),
        ({"steps": 2.5}, ValueError, "steps = 2.5"),
        ({"steps": 2**31}, ValueError, "steps = 2147483648"),
        ({"steps": None, "t1": math.nan}, ValueError, "t1 = nan"),
        ({"steps": None, "t1": 1e9}, ValueError, "takes 10000000000 steps"),
        ({"save": gf.Explicit(times=[3.0])}, ValueError, "save time 3 lies after t1 = 1"),
        ({"save_each": {"los": gf.Linear()}}, ValueError, "no observable 'los'"),
        ({"observables": {"loss": flat}}, ValueError, "two observables are called 'loss'"),
        ({"optimiser": optax.sgd(0.2)}, ValueError, "steps are 0.2 times.*learning_rate = 0.1"),
        ({"optimiser": optax.lbfgs}, TypeError, "the optimiser cannot take a step.*value_fn"),
        ({"optimiser": optax.lbfgs()}, TypeError, "the optimiser cannot take a step.*value_fn"),
        ({"optimiser": None}, TypeError, "the optimiser cannot take a step"),
        ({"batch_size": 4}, ValueError, r"batch_size needs a key.*jax.random.key\(0\)"),
        ({"batch_size": 4, "key": 0}, ValueError, "batch_size needs a key"),
        ({"batch_size": 0, "key": KEY}, ValueError, "batch_size = 0; allowed: from 1.*20"),
        ({"batch_size": 21, "key": KEY}, ValueError, "batch_size = 21; allowed: from 1.*20"),
        ({"batch_size": 2.5, "key": KEY}, ValueError, "batch_size = 2.5"),
        (
            {"problem": no_samples, "batch_size": 2, "key": KEY},
            TypeError,
            "no sample_loss; pass the loss as sample_loss=",
        ),
        ({"problem": vector_problem}, TypeError, "needs a loss, and this problem is a vector fiel"),
    ],
)
def test_mistakes_are_named(arguments, error, told):
    given = {"optimiser": optax.sgd, "learning_rate": 0.1, "steps": 10} | arguments
    problem = given.pop("problem", network)()
    with pytest.raises(error, match=told) as caught:
        gf.descend(problem, **given)
    assert "\n" not in str(caught.value)


def test_the_stability_warning():
    """Above 2 / sharpness, with both numbers; of plain descent alone."""
    problem, *_ = quadratic([0.5, 1.0, 8.0])
    for plain in (optax.sgd, optax.sgd(0.26)):
        with pytest.warns(
            StabilityWarning, match=r"rate 0.26 .* 2 / sharpness = 0.25 .* is 8:"
        ) as w:
            gf.descend(problem, plain, learning_rate=0.26, steps=2)
        assert w[0].filename == __file__
    for quiet in (
        heavy,
        optax.adam,
        lambda rate: optax.chain(optax.clip(0.5), optax.sgd(rate)),
        lambda rate: optax.sgd(optax.exponential_decay(rate, 10, 0.5)),
    ):
        gf.descend(problem, quiet, learning_rate=0.26, steps=2)
    gf.descend(problem, learning_rate=0.24, steps=2)


# What it costs.


def test_float32_stays():
    for optimiser in (heavy, optax.adam(0.1)):
        descent = gf.descend(
            network(np.float32), optimiser, learning_rate=0.1, steps=20, batch_size=4, key=KEY
        )
        every = [*jax.tree.leaves(descent.final_params)]
        every += [descent[name] for name in descent if name != "step"]
        assert {array.dtype for array in every} == {np.dtype(np.float32)}
        assert descent["step"].dtype == np.int64
        assert descent.time.dtype == np.float64


@pytest.mark.parametrize("optimiser", [optax.sgd, heavy])
def test_other_rates_and_ends_compile_nothing(optimiser):
    names = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **kw: (
            names.append(event) if event.endswith("backend_compile_duration") else None
        )
    )

    def descend(**changes):
        gf.descend(network(), optimiser, **{"learning_rate": 0.01, "steps": 50} | changes)

    descend()
    del names[:]
    descend(learning_rate=0.02)
    descend(steps=77, save=gf.Linear(count=5))
    descend(steps=None, t1=1.3)
    assert names == []
