"""`compare` where runs end early, with other optimisers, observables and dtypes; its mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import Bowl, flat, logistic_scalar, quadratic, quartic_scalar
from pydantic import ValidationError

import gradflow as gf
from gradflow.comparison import Descents

RATES = (0.02, 0.01)
# Everything that is recorded by default, at few times: one program for most tests.
FIELDS = {"t1": 1.0, "save": gf.Linear(count=6), "observables": {"flat": flat}}


def bowl(seed=0):
    return quadratic([0.1, 1.0, 5.0], seed)[0]


@pytest.fixture(scope="module")
def plain():
    """A comparison with nothing special."""
    return gf.compare(bowl(), RATES, **FIELDS)


# ---- runs that end early ----


def test_a_rate_that_diverges_beside_others_that_do_not():
    problem, start, _ = quartic_scalar()
    fields = {"t1": 20.0, "rtol": 1e-8, "save": gf.Linear(count=11), "observables": {"flat": flat}}
    with pytest.warns(gf.StabilityWarning, match="learning rate 2 is above") as caught:
        found = gf.compare(problem, (0.05, 2.0, 0.1, 0.2), **fields)
    assert len(caught) == 1
    lost = found.descents[1]
    assert lost.result == "diverged"
    assert lost.stats["diverged"]
    assert np.isfinite(float(lost.final_params))
    # By hand: the last step whose parameter, loss and gradient are finite.
    value, steps = start[0], 0
    with np.errstate(over="ignore"):
        while np.isfinite((value - 2 * value**3) ** 4):
            value, steps = value - 2 * value**3, steps + 1
    assert lost.stats["steps"] == steps
    kept = found.time <= 2.0 * steps
    for name in ("drift", "relative_drift", "cosine", "loss", "loss_difference", "flat"):
        values = found[name].reshape(len(kept), 4, -1)[1:]
        assert np.isnan(values[~kept[1:], 1]).all()
        assert np.isfinite(values[kept[1:], 1]).all()
        assert np.isfinite(values[:, [0, 2, 3]]).all()
    # The others are what they are alone.
    alone = gf.compare(problem, (0.05, 0.1, 0.2), **fields | {"save": gf.Linear(count=101)})
    for j, other in ((0, 0), (2, 1), (3, 2)):
        np.testing.assert_array_equal(found["flat"][:, j], alone["flat"][::10, other])
        np.testing.assert_allclose(found["drift"][:, j], alone["drift"][::10, other], rtol=1e-9)
    attrs = found.record.attrs
    assert attrs["fitted_rates"] == [0.05, 0.1, 0.2]
    assert attrs["order"] == pytest.approx(alone.record.attrs["order"])
    assert attrs["time"] == 20.0
    assert 0.05 <= attrs["largest_rate"] < 2
    assert f"learning rate 2 diverged after t = {2.0 * steps:g}" in found.findings
    assert any("learning rate 2 starts above the edge" in line for line in found.findings)


def test_one_rate():
    problem = bowl()
    found = gf.compare(problem, [0.02], **FIELDS)
    assert found["drift"].shape == (6, 1)
    assert np.isnan(found.record.attrs["order"]).all()
    assert np.isnan(found["drift_order"]).all()
    assert not [line for line in found.findings if "power" in line]
    assert found.record.attrs["largest_rate"] in (None, 0.02)


def test_a_flow_that_stops_early():
    problem, *_ = logistic_scalar()
    fields = {"t1": 100.0, "save": gf.Linear(count=41), "stop": gf.Stop(loss=0.1)}
    found = gf.compare(problem, (0.5, 0.3), **fields)
    flow = gf.solve(problem, **fields)
    assert flow.result == found.flow.result == found.record.result == "loss"
    end = found.flow.final_time
    assert end == flow.final_time < 90
    # The flow's rows are those asked for, and its end.
    for name in flow:
        np.testing.assert_array_equal(found.flow[name], flow[name])
    assert found.flow.time[-1] == end
    # So end the descents, with the last step before.
    for rate, descent in zip((0.5, 0.3), found.descents, strict=True):
        assert descent.result == "flow_ended"
        assert not descent.stats["diverged"]
        assert end - rate < descent.final_time <= end
        assert descent.time[-1] == descent.final_time
    # Every row is whole, as far as the flow went.
    assert found["matched_time"].max() <= end
    assert found.time[-1] > end - 3
    assert np.isfinite(found["drift"]).all()
    assert np.isfinite(found["loss_difference"]).all()


def test_the_last_step_of_the_flow_passes_many_times_of_comparison():
    problem, *_ = quartic_scalar()
    found = gf.compare(problem, (0.05, 0.02), t1=30.0, rtol=1e-2, save=gf.Logarithmic(count=150))
    legs = found.flow.stats["legs"]
    assert sum(leg["accepted"] for leg in legs) < 60 < len(found.time)
    assert found.time[-1] == found.record.final_time == 30.0
    assert np.isfinite(found["drift"]).all()
    assert np.isfinite(found["grad_norm_difference"]).all()


def test_cancelling():
    reports = []
    found = gf.compare(
        bowl(), (0.0002, 0.0001), **FIELDS | {"t1": 50.0, "save": gf.Linear(count=301)},
        progress=reports.append, cancelled=lambda: len(reports) >= 100,
    )  # fmt: skip
    assert len(reports) == 100
    shares = [report.fraction for report in reports]
    assert shares == sorted(shares)
    assert 0 < shares[-1] < 1
    runs = (found.flow, *found.descents)
    assert "cancelled" in {run.result for run in runs}
    assert all(run.result == "cancelled" for run in runs)
    count = len(found.time)
    assert 2 < count < 301
    for name in ("drift", "cosine", "matched_time", "loss", "flat_difference"):
        assert len(found[name]) == count
        assert np.isfinite(found[name][1:]).all()
    for run in runs:
        assert run.time[-1] == run.final_time < 50.0
        assert run.final_time >= found.time[-1]
    assert found.findings


# ---- what else can be asked for ----


def test_certified_together_with_descents(plain):
    found = gf.compare(bowl(), RATES, **FIELDS, certify=True)
    for name in plain.flow:
        np.testing.assert_array_equal(found.flow[name], plain.flow[name])
    for name in plain.record:
        np.testing.assert_array_equal(found[name], plain[name])
    assert set(found.record) == set(plain.record)
    flow = found.flow
    for name in ("loss", "flat", "distance", "energy_residual"):
        error = flow.variables[f"{name}_error"]
        assert error.dims == flow.variables[name].dims
        assert error.values.shape == flow[name].shape
    assert np.isfinite(flow["relative_error"][1:]).all()
    alone = gf.solve(bowl(), **FIELDS, certify=True)
    np.testing.assert_allclose(flow["error"], alone["error"], rtol=1e-6)
    assert flow.stats["error_estimate"] >= alone.stats["error_estimate"] * (1 - 1e-6)
    assert flow.stats["certification_evaluations"] == alone.stats["certification_evaluations"]


def test_save_times_of_single_observables():
    problem, _, exact = quadratic([0.1, 1.0, 5.0])
    each = {"flat": gf.Explicit(times=(0.3, 0.71)), "dissipated": gf.Linear(count=3)}
    found = gf.compare(problem, (0.02, 0.013), **FIELDS | {"rtol": 1e-9, "save_each": each})
    record = found.record
    assert record.variables["flat"].dims == ("time_flat", "learning_rate", "flat_0")
    assert record.variables["matched_time_flat"].dims == ("time_flat", "learning_rate")
    np.testing.assert_allclose(record.times("flat"), [0.3, 0.72])
    np.testing.assert_allclose(found["matched_time_flat"], [[0.3, 0.299], [0.72, 0.715]])
    for j in range(2):
        flow = exact(found["matched_time_flat"][:, j])
        np.testing.assert_allclose(
            found["flat"][:, j] - found["flat_difference"][:, j], flow, rtol=1e-7
        )
    # The flow's own are at the times asked for.
    assert found.flow.times("flat").tolist() == [0.3, 0.71]
    assert found.flow.times("dissipated").tolist() == [0.0, 0.5, 1.0]
    assert "dissipated" not in record
    assert found.descents[1].times("flat").tolist() == pytest.approx([0.299, 0.715])


def test_the_sharpness_unasked(plain):
    assert plain.record.variables["sharpness"].dims == ("time_sharpness", "learning_rate")
    np.testing.assert_allclose(plain["sharpness"], 5.0)
    np.testing.assert_allclose(plain["sharpness_difference"], 0, atol=1e-9)
    assert plain.record.attrs["sharpness"] == pytest.approx(5.0)


def test_a_spectrum_of_the_users_own():
    """Two products do not find the eigenvalues: what is said of the start does not rest on them."""
    spectrum = gf.Spectrum(eigenvalues=2, steps=2, trace=True, save=gf.Linear(count=3))
    found = gf.compare(bowl(), RATES, **FIELDS, spectrum=spectrum)
    dims = found.record.variables["hessian_eigenvalue"].dims
    assert dims == ("time_hessian_eigenvalue", "learning_rate", "eigenvalue")
    assert found.record.coords["eigenvalue"].tolist() == [1, 2]
    assert found["hessian_trace"].shape == (3, 2)
    assert found["sharpness"][0, 0] < 4.99
    assert found.record.attrs["sharpness"] == pytest.approx(5.0)


@pytest.mark.parametrize("shape", [(), (2,)])
def test_an_observable_of_the_users_called_sharpness(shape):
    """It is theirs: nothing is concluded from it."""
    mine = {
        "sharpness": lambda t, params, data: jnp.full(shape, 150.0) - 100 * t,
        "energy": lambda t, params, data: 2 * t,
    }
    found = gf.compare(bowl(), RATES, **FIELDS | {"observables": mine})
    assert found["sharpness"].shape == (6, 2, *shape)
    np.testing.assert_allclose(found["sharpness_difference"], 0, atol=1e-12)
    np.testing.assert_allclose(found["energy"], 2 * found["matched_time"])
    assert found.record.attrs["sharpness"] == pytest.approx(5.0)
    assert found.record.attrs["stability"] == []
    assert not [line for line in found.findings if "sharpness" in line]


def test_momentum_against_the_heavy_ball():
    rates = (0.04, 0.02, 0.01, 0.005)
    momentum = 0.5
    # A factor above 2 / sharpness: momentum has another limit, so nothing is said of this one.
    problem = quadratic([0.1, 1.0, 60.0])[0]
    found = gf.compare(
        problem, rates, **FIELDS | {"t1": 2.0}, rtol=1e-9,
        optimiser=lambda rate: optax.sgd(rate, momentum=momentum),
        modified=lambda rate: gf.fields.HeavyBall(learning_rate=rate, momentum=momentum),
    )  # fmt: skip
    assert found.record.attrs["modified_order"][0] == pytest.approx(2, abs=0.1)
    assert found.record.attrs["stability"] == []
    assert not [line for line in found.findings if "edge" in line]
    # Each is nearer to its own equation than to the flow, which is another's limit.
    assert (found["modified_drift"][1:, 1:] < 0.1 * found["drift"][1:, 1:]).all()


def test_adam_has_no_limit_to_be_told_of():
    found = gf.compare(bowl(), (0.5, 0.25), **FIELDS, optimiser=optax.adam)
    assert found.record.attrs["stability"] == []
    assert not [line for line in found.findings if "edge" in line]
    assert "modified_drift" not in found.record


def test_another_field_for_the_flow():
    """The modified flow of one rate, as the flow that descents are held against."""
    exact, field = Bowl([0.1, 1.0, 5.0]), gf.fields.Modified(learning_rate=0.02)
    found = gf.compare(exact.problem, [0.02], **FIELDS | {"rtol": 1e-9}, field=field)
    for i, time in enumerate(found.time):
        apart = exact.descent(0.02, round(time / 0.02)) - exact.modified(0.02, time)
        np.testing.assert_allclose(found["drift"][i, 0], np.linalg.norm(apart), atol=1e-8)
    assert found["drift"].max() > 1e-5
    assert "flow_energy" in found.flow
    assert "flow_energy" not in found.record


def regression(dtype=float):
    rng = np.random.default_rng(0)
    data = tuple(jnp.asarray(x, dtype) for x in (rng.normal(size=(12, 3)), rng.normal(size=12)))
    return gf.Problem(sample_loss=squares, params=jnp.zeros(3, dtype), data=data)


def squares(params, data):
    inputs, targets = data
    return (inputs @ params - targets) ** 2 / 2


def test_minibatches():
    problem, key = regression(), jax.random.key(3)
    found = gf.compare(problem, RATES, **FIELDS, batch_size=4, key=key)
    for rate, descent in zip(RATES, found.descents, strict=True):
        alone = gf.descend(problem, learning_rate=rate, t1=1.0, batch_size=4, key=key)
        np.testing.assert_array_equal(descent.final_params, alone.final_params)
    # Two rates draw the same batches, and neither is the whole: their drifts are of order 1/2.
    assert found.record.attrs["order"][0] < 0.9
    # What is recorded is of the whole loss all the same.
    start = float(problem.loss(problem.params, problem.data))
    np.testing.assert_allclose(found["loss"][0], start)
    losses = jax.vmap(lambda params: problem.loss(params, problem.data))(found["flat"][:, 0])
    np.testing.assert_allclose(found["loss"][:, 0], losses)


def test_float32():
    """Times of that precision are other numbers than those asked for: every row is found."""
    problem, save = regression(np.float32), gf.Linear(count=8)
    found = gf.compare(problem, (0.03, 0.013), t1=0.7, save=save)
    assert found.flow.time.tolist() == save.build(0.7).astype(np.float32).tolist()
    assert found.flow.result == "end_time"
    assert len(found.time) == 8
    for name in ("drift", "loss", "loss_difference", "grad_norm_difference"):
        assert np.isfinite(found[name]).all(), name
    inputs, targets = (np.asarray(x, float) for x in problem.data)
    eigenvalues, basis = np.linalg.eigh(inputs.T @ inputs / 12)
    minimum = basis.T @ np.linalg.lstsq(inputs, targets)[0]
    for i, j in np.ndindex(found["drift"].shape):
        time, rate = found["matched_time"][i, j], (0.03, 0.013)[j]
        flow = np.exp(-eigenvalues * time)
        descent = (1 - rate * eigenvalues) ** round(time / rate)
        apart = np.linalg.norm((descent - flow) * minimum)
        np.testing.assert_allclose(found["drift"][i, j], apart, rtol=0.05, atol=1e-5)


def test_a_rate_that_falls_behind_another_at_the_very_end():
    """The flow is read in the order of times, though the rows are not in it."""
    rates, t1 = (0.1, 0.09, 0.0557), 0.8
    problem, start, exact = quadratic([0.1, 1.0, 10.0])
    save = gf.Explicit(times=(0.0, 0.7, 0.8))
    found = gf.compare(problem, rates, t1=t1, save=save, rtol=1e-10, certify=True)
    matched = found["matched_time"]
    assert matched[1, 2] > matched[2, 1]
    far = np.linalg.norm(exact(matched.ravel()) - start, axis=1).reshape(matched.shape)
    drift = found["drift"][1:] / found["relative_drift"][1:]
    np.testing.assert_allclose(drift, far[1:], rtol=1e-8)


# ---- mistakes ----


def other_rate(rate):
    return optax.sgd(2 * rate)


@pytest.mark.parametrize(
    ("rates", "changes", "error", "message"),
    [
        ([0.0], {}, ValueError, "learning_rate = 0.0; allowed: a finite number above 0"),
        ([0.1, -0.2], {}, ValueError, "learning_rate = -0.2; allowed: a finite number above 0"),
        ([float("nan")], {}, ValueError, "learning_rate = nan; allowed"),
        ([float("inf")], {}, ValueError, "learning_rate = inf; allowed"),
        (["0.1"], {}, ValueError, "learning_rate = '?0.1'?; allowed: a finite number"),
        ([0.1, 0.2, 0.1], {}, ValueError, "the learning rate 0.1 is there twice"),
        ([0.1, np.float64(0.1)], {}, ValueError, "the learning rate 0.1 is there twice"),
        ([], {}, ValueError, "learning_rates is empty; give one at least"),
        ([0.1, 1.5], {}, ValueError, "learning_rate = 1.5 is larger than t1 = 1"),
        ([0.1], {"t1": -1.0}, ValueError, "t1 = -1.0"),
        ([0.1], {"rtol": 1e-16}, ValueError, "rtol = 1e-16 is below"),
        ([0.1], {"rtol": 5e-14, "certify": True}, ValueError, "cannot be certified in float64"),
        ([0.1], {"optimiser": optax.sgd(0.1)}, ValueError, "made already.*optax.sgd"),
        ([0.1], {"optimiser": other_rate}, ValueError, "steps are 0.2 times the gradient"),
        ([0.1], {"optimiser": lambda rate: rate}, TypeError, "optax's or makes one; it made"),
        ([0.1], {"field": "newton"}, ValueError, "field = 'newton'"),
        ([0.1], {"save_each": {"los": gf.Linear()}}, ValueError, "no observable 'los'"),
        ([0.1], {"save": gf.Explicit(times=(0.0, 9.0))}, ValueError, "save time 9 lies after"),
        ([0.1], {"batch_size": 4}, ValueError, "batch_size needs a key"),
        ([0.1], {"batch_size": 4, "key": jax.random.key(0)}, TypeError, "sample_loss"),
        ([0.1], {"observables": {"drift": flat}}, ValueError, "an observable is called 'drift'"),
        ([0.1], {"observables": {"loss_difference": flat}}, ValueError, "'loss_difference'"),
        ([0.1], {"observables": {"matched_time": flat}}, ValueError, "'matched_time'"),
        ([0.1], {"observables": {"error": flat}, "certify": True}, ValueError, "'error'"),
    ],
)
def test_mistakes_are_named(rates, changes, error, message):
    with pytest.raises(error, match=message) as caught:
        gf.compare(bowl(), rates, **{"t1": 1.0} | changes)
    assert "\n" not in str(caught.value)


def test_a_vector_field_cannot_be_descended():
    problem = gf.Problem(vector_field=lambda t, p, d: -p, params=jnp.ones(2))
    with pytest.raises(
        TypeError, match="descent needs a loss, and this problem is a vector field"
    ) as caught:
        gf.compare(problem, [0.1], t1=1.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rates": []}, "at least 1 item"),
        ({"learning_rates": [0.1, 0.1]}, "the learning rate 0.1 is there twice"),
        ({"learning_rates": [0.0]}, "greater than 0"),
        ({"learning_rates": [float("nan")]}, "greater than 0|finite"),
        ({"learning_rates": [float("inf")]}, "finite"),
        ({"optimiser": "sdg"}, "got the text 'sdg'; did you mean 'sgd'\\? allowed: "),
        ({"optimiser": "scale_by_adam"}, "allowed: an optimiser of optax with a learning_rate"),
        ({"options": {"momentun": 0.9}}, "sgd has no option 'momentun'; did you mean 'momentum'"),
        ({"optimiser": "adam", "modified": True}, "modified: no modified flow is known"),
        ({"modified": True, "batch_size": 3}, "modified: no modified flow is known"),
        ({"modified": True, "options": {"momentum": 1.0}}, "modified: no modified flow is known"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"drift_limit": 0.0}, "greater than 0"),
        ({"rate": 0.1}, "Extra inputs"),
    ],
)
def test_mistakes_in_a_configuration(fields, message):
    with pytest.raises(ValidationError, match=message):
        Descents(**{"learning_rates": [0.1]} | fields)


def test_what_a_configuration_builds():
    spec = Descents(
        learning_rates=[0.1, 0.05], options={"momentum": 0.9, "nesterov": True}, modified=True
    )
    assert spec.learning_rates == (0.1, 0.05)
    assert isinstance(spec.build()(0.1), optax.GradientTransformation)
    field = spec.modified_field()
    assert field(0.1) == gf.fields.Nesterov(learning_rate=0.1, momentum=0.9)
    plain = Descents(learning_rates=[0.1], modified=True)
    assert plain.modified_field()(0.1) == gf.fields.Modified(learning_rate=0.1)
    ball = Descents(learning_rates=[0.1], options={"momentum": 0.5}, modified=True)
    assert ball.modified_field()(0.1) == gf.fields.HeavyBall(learning_rate=0.1, momentum=0.5)
    assert Descents(learning_rates=[0.1]).modified_field() is None
    adam = Descents(learning_rates=[0.1], optimiser="adam", options={"b1": 0.8})
    adam.check(bowl())
    with pytest.raises(TypeError, match="sample_loss"):
        Descents(learning_rates=[0.1], batch_size=2).check(bowl())


# ---- memory ----


def network_loss(params, data):
    return jnp.mean((jnp.tanh(data @ params["in"]) @ params["out"]) ** 2)


def test_memory_does_not_grow_with_the_number_of_times():
    """What the device holds, looked at all along, of eight descents and the flow."""
    rng = np.random.default_rng(0)
    width = 60
    params = {name: jnp.asarray(rng.normal(size=(width, width))) / 8 for name in ("in", "out")}
    problem = gf.Problem(network_loss, params, jnp.asarray(rng.normal(size=(2, width))))
    copy = problem.size * 8
    rates = [0.01 - 0.0001 * k for k in range(8)]
    most = {}
    for count in (10, 100):
        held = []

        def look(_, held=held):
            arrays = jax.live_arrays()
            held.append((sum(a.nbytes for a in arrays), len(arrays)))

        before = sum(a.nbytes for a in jax.live_arrays())
        found = gf.compare(
            problem, rates, t1=1.0, rtol=1e-3, save=gf.Linear(count=count), progress=look,
            save_each={"sharpness": gf.Linear(count=3)},
        )  # fmt: skip
        assert len(found.time) == count
        most[count] = (max(held)[0] - before, max(number for _, number in held))
        del found
    # Of what each run holds between steps; in them it holds a few more, one run at a time.
    assert most[100][0] <= 4 * 9 * copy
    assert most[100][0] <= most[10][0] + 0.5 * copy
    assert most[100][1] <= most[10][1] + 50
