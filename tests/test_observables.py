"""Plain functions as observables: their axes, what they return, and models with data."""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import optax
import pytest

import gradflow as gf


def half_square(w, data):
    del data
    return jnp.sum(w**2) / 2


@gf.observable(dims=["side"], coords={"side": ["left", "right"]}, label="weight", units="m")
def weights(t, w, data):
    del t, data
    return w


@gf.observable(
    dims={"twice": ["side"]},
    coords={"side": ["left", "right"]},
    label={"twice": "doubled"},
    units={"norm": "km"},
)
def several(t, w, data):
    del t, data
    return {"twice": 2 * w, "norm": jnp.linalg.norm(w)}


def plain(t, w, data):
    del data
    return t * w


def problem(**arguments):
    return gf.Problem(half_square, jnp.asarray([1.0, 2.0]), **arguments)


def test_what_functions_return_is_recorded_with_their_axes():
    flow = gf.solve(
        problem(observables=[weights, plain]),
        t1=1.0,
        rtol=1e-8,
        observables={"another": plain, "both": several},
        save=gf.Linear(count=3),
        save_each={"both": gf.Linear(count=5)},
    )
    exact = np.outer(np.exp(-flow.time), [1.0, 2.0])
    np.testing.assert_allclose(flow["weights"], exact, rtol=1e-7)
    np.testing.assert_allclose(flow["another"], flow.time[:, None] * exact, rtol=1e-7)
    np.testing.assert_array_equal(flow["plain"], flow["another"])
    assert flow.variables["weights"].dims == ("time", "side")
    assert flow.variables["weights"].units == "m"
    assert flow.variables["plain"].dims == ("time", "plain_0")
    assert list(flow.coords["side"]) == ["left", "right"]
    # A dict's keys are variables of their own, on the times of the function.
    assert flow["twice"].shape == (5, 2)
    assert flow.variables["twice"].dims == ("time_both", "side")
    assert flow.variables["twice"].label == "doubled"
    assert flow.variables["norm"].units == "km"
    np.testing.assert_allclose(flow["norm"] / flow["norm"][0], np.exp(-flow.times("norm")), 1e-7)
    assert weights(0.0, jnp.ones(2), None).shape == (2,)  # still the function that it was


def test_descents_and_comparisons_record_them_too():
    compared = gf.compare(
        problem(observables=[several]), learning_rates=[0.5], t1=1.0, save=gf.Linear(count=3)
    )
    np.testing.assert_allclose(compared.descents[0]["twice"][-1], [0.5, 1.0])
    assert "norm_difference" in compared.record
    assert list(compared.to_dataframe()["drift[0.5]"]) == list(compared["drift"][:, 0])
    ax = matplotlib.figure.Figure().subplots()
    assert compared.plot("drift", ax=ax) is ax
    assert len(ax.get_lines()) == 1


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ([3], "observables are functions"),
        ({"loss": plain}, "two observables are called 'loss'"),
        ({"a name": plain}, "letters, digits and _; got 'a name'"),
        ([lambda t, p, d: p], "got '<lambda>': give it by name="),
        ([gf.observable(plain, dims=["time"])], "no axis may be called 'time'"),
        ([gf.observable(plain, dims=["plain"])], "no axis may be called 'plain', .*a variable"),
        ([gf.observable(plain, dims=["side"]), weights], "'side' of 'weights' has other labels"),
        ([gf.observable(plain, dims=["side"], coords={"side": [1]})], "2 entries and coords 1"),
        ([gf.observable(plain, dims=["a", "b"])], r"shape \(2,\), and dims has a, b"),
        ([gf.observable(plain, units={"a": "m"})], "units is a mapping, and it returns a single"),
        ({"k": lambda t, p, d: {"a": {"b": p}}}, "a mapping in a mapping"),
        ({"k": lambda t, p, d: {1: p}}, "letters, digits and _; got 1"),
        ({"k": lambda t, p, d: {"layers/0": p}}, "letters, digits and _; got 'layers/0'"),
        ({"k": lambda t, p, d: {}}, "a dict of them, got none"),
        ({"energy_residual": plain}, "called 'energy_residual'; rename"),
        ({"seed": plain}, "called 'seed'; rename"),
        (
            [gf.observable(plain, dims=["k"], coords={"kk": "ab"})],
            "'kk', and the axes in dims are",
        ),
        (
            [gf.observable(several.function, units={"nrom": "m"})],
            "'nrom', and it returns norm, tw",
        ),
        ({"k": lambda t, p, d: p.astype(complex)}, "an array of complex128"),
        ({"k": lambda t, p, d: "x"}, "must return a real array.*got str"),
    ],
)
def test_mistakes_are_told_before_anything_runs(given, error):
    with pytest.raises((TypeError, ValueError), match=error):
        gf.solve(problem(), t1=1.0, observables=given)


MODEL = eqx.nn.MLP(2, "scalar", 3, 1, activation=jnp.tanh, key=jax.random.key(0))
DATA = (np.arange(8.0).reshape(4, 2), np.ones(4))


def test_a_model_and_a_loss_make_a_problem():
    made = gf.Problem.from_model(MODEL, optax.l2_loss, DATA)
    outputs = jax.vmap(MODEL)(DATA[0])
    np.testing.assert_allclose(
        made.loss(made.params, made.data), np.mean((outputs - DATA[1]) ** 2) / 2
    )
    assert made.has_samples
    assert isinstance(gf.solve(made, t1=0.1).final_params, eqx.nn.MLP)


@pytest.mark.parametrize(
    ("act", "options"),
    [
        (gf.solve, {}),
        (gf.descend, {"learning_rate": 0.1}),
        (gf.compare, {"learning_rates": [0.1]}),
    ],
)
def test_what_is_no_problem_is_named(act, options):
    with pytest.raises(TypeError, match=r"must be a gradflow\.Problem, got function; make one by"):
        act(half_square, t1=1.0, **options)


def test_a_loss_by_name_is_named():
    with pytest.raises(TypeError, match=r"such as optax\.l2_loss; got 'mse'"):
        gf.Problem.from_model(MODEL, "mse", DATA)


def test_one_function_alone_is_observed():
    flow = gf.solve(problem(), t1=0.1, observables=plain, save=gf.Linear(count=3))
    assert flow["plain"].shape == (3, 2)


@pytest.mark.parametrize(
    ("model", "data", "error"),
    [
        (3.0, DATA, "the model must be a function of one input, got 3.0"),
        (MODEL, DATA[0], r"a pair \(inputs, targets\), got ndarray"),
        (MODEL, (DATA[0], np.ones(3)), r"of one length, 1 at least; got \(4, 2\), \(3,\)"),
        (MODEL, (1.0, 1.0), "of one length"),
        (MODEL, (np.ones((0, 2)), np.ones(0)), "1 at least"),
        (lambda x: x, DATA, "is <function <lambda>.*must be a float array"),
        (eqx.nn.Linear(2, 3, key=jax.random.key(0)), (DATA[0], np.ones((4, 3))), "sum or average"),
    ],
)
def test_a_model_that_does_not_fit_is_named(model, data, error):
    with pytest.raises((TypeError, ValueError), match=error):
        gf.Problem.from_model(model, optax.l2_loss, data)
