"""Handwritten digits: the data, the losses and their gradients against NumPy and SciPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.linalg import norm
from scipy.signal import correlate2d
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_digits

import gradflow as gf
from gradflow.observables import Snapshot
from gradflow.tasks.blocks import BALANCES
from gradflow.tasks.digits import sample_loss

LOGISTIC = gf.tasks.Digits(samples=300)
MLP = gf.tasks.Digits(model="mlp", hidden=7, samples=300)
CONVOLUTION = gf.tasks.Digits(model="convolution", hidden=5, samples=30)
ATTENTION = gf.tasks.Digits(model="attention", hidden=6, heads=2, samples=30)
DEEPER = pytest.mark.parametrize("task", [CONVOLUTION, ATTENTION], ids=["convolution", "attention"])


def scaled(problem, factor):
    return jax.tree.map(lambda x: factor * x, problem.params)


def log_probabilities(model, images):
    """By NumPy, from the layers' weights."""
    values = np.asarray(images.pixels, np.float64)
    for i, layer in enumerate(model.layers):
        values = np.tanh(values) if i else values
        values = values @ np.asarray(layer.weight, np.float64).T + np.asarray(layer.bias)
    return log_softmax(values, axis=1)


def cross_entropy(model, images):
    return -log_probabilities(model, images)[np.arange(len(images.digits)), images.digits]


@pytest.mark.parametrize("samples", [1, 300, 1796])
def test_the_split_is_of_all_images(samples):
    data = gf.tasks.Digits(samples=samples).build(jax.random.key(2)).data
    assert len(data.train.digits) == samples
    assert len(data.test.digits) == 1797 - samples
    both = [
        np.column_stack([np.concatenate([a, b]) for a, b in zip(*data, strict=True)]),
        np.column_stack(load_digits(return_X_y=True)) / np.array([16.0] * 64 + [1.0]),
    ]
    # The same rows, each as often: the two parts are disjoint.
    one, other = (rows[np.lexsort(rows.T)] for rows in both)
    assert np.array_equal(one, other)


def test_a_key_stands_for_one_draw():
    one, same, other = (LOGISTIC.build(jax.random.key(seed)) for seed in (0, 0, 1))
    leaves = (jax.tree.leaves((problem.params, problem.data)) for problem in (one, same, other))
    for x, y, z in zip(*leaves, strict=True):
        assert np.array_equal(x, y)
        assert not np.array_equal(x, z)


@pytest.mark.parametrize("samples", [0, 1797, -5])
def test_sizes_without_training_or_test_images_are_refused(samples):
    with pytest.raises(ValueError, match="samples"):
        gf.tasks.Digits(samples=samples)


@pytest.mark.parametrize("factor", [1.0, 20.0, 1e5])  # the last for logits of tens of thousands
@pytest.mark.parametrize("task", [LOGISTIC, MLP], ids=["logistic", "mlp"])
def test_cross_entropy(task, factor):
    problem = task.build(jax.random.key(0))
    model = problem.model(scaled(problem, factor))
    exact = cross_entropy(model, problem.data.train)
    np.testing.assert_allclose(sample_loss(model, problem.data), exact, rtol=1e-11, atol=1e-14)


def test_the_gradient_of_logistic_regression_in_closed_form():
    problem = LOGISTIC.build(jax.random.key(0))
    for factor in (1.0, 30.0):
        params = scaled(problem, factor)
        found = jax.grad(problem.loss)(params, problem.data).layers[0]
        pixels, digits = map(np.asarray, problem.data.train)
        missing = np.exp(log_probabilities(problem.model(params), problem.data.train))
        missing[np.arange(len(digits)), digits] -= 1
        np.testing.assert_allclose(found.weight, missing.T @ pixels / len(digits), atol=1e-14)
        np.testing.assert_allclose(found.bias, missing.mean(axis=0), atol=1e-14)


@pytest.mark.parametrize("task", [LOGISTIC, MLP, CONVOLUTION, ATTENTION], ids=lambda x: x.model)
def test_float32_starts_at_the_same_point(task):
    double = task.build(jax.random.key(0))
    jax.config.update("jax_enable_x64", False)
    try:
        single = task.build(jax.random.key(0))
        assert single.dtype == np.float32
        assert np.isfinite(eqx.filter_jit(single.loss)(scaled(single, 1e5), single.data))
    finally:
        jax.config.update("jax_enable_x64", True)
    for x, y in zip(*map(jax.tree.leaves, (single.params, double.params)), strict=True):
        assert np.array_equal(x, y)
    assert np.array_equal(single.data.train.digits, double.data.train.digits)


def test_the_network_learns():
    problem = MLP.build(jax.random.key(0))
    flow = gf.solve(problem, t1=60.0, rtol=1e-3, solver="tsit5", save=gf.Linear(count=10))
    assert flow.result == "end_time"
    assert np.all(np.diff(flow["loss"]) < 0)
    assert flow["test_accuracy"][-1] > 0.85 > 0.3 > flow["test_accuracy"][0]
    model, data = flow.final_params, problem.data
    for suffix, images in (("", data.train), ("test_", data.test)):
        right = log_probabilities(model, images).argmax(axis=1) == np.asarray(images.digits)
        assert flow[f"{suffix}accuracy"][-1] == pytest.approx(right.mean(), abs=1e-12)
        assert flow[f"{suffix}loss"][-1] == pytest.approx(cross_entropy(model, images).mean())


# Convolutions and attention: image by image, from their definitions.


def convolved(model, image):
    """Logits of one image of shape (8, 8)."""
    channels = [image]
    for layer in model.layers[:2]:
        # Inputs are ordered by place, then by channel.
        kernels = layer.weight.reshape(len(layer.weight), 3, 3, len(channels))
        channels = [
            np.maximum(
                sum(
                    correlate2d(channel, kernel[:, :, i], "same")[::2, ::2]
                    for i, channel in enumerate(channels)
                )
                + bias,
                0,
            )
            for kernel, bias in zip(kernels, layer.bias, strict=True)
        ]
    return model.layers[2].weight @ np.stack(channels, axis=2).ravel() + model.layers[2].bias


def attended(model, image):
    """Logits of one image of shape (8, 8), head by head and patch by patch."""
    (block,) = model.blocks
    heads, (first, second) = block.attention.heads, block.mlp.layers
    corners = [(i, j) for i in range(0, 8, 2) for j in range(0, 8, 2)]
    x = [
        model.embedding.weight @ image[i : i + 2, j : j + 2].ravel() + position
        for (i, j), position in zip(corners, model.positions, strict=True)
    ]
    w = block.attention
    matrices = [np.split(matrix, heads) for matrix in (w.w_q, w.w_k, w.w_v)]
    after = []
    for own in x:
        stream = own
        for w_q, w_k, w_v, w_o in zip(*matrices, np.split(w.w_o, heads, axis=1), strict=True):
            p = softmax([(w_q @ own) @ (w_k @ other) / np.sqrt(len(w_q)) for other in x])
            stream = stream + w_o @ (p @ [w_v @ other for other in x])
        z = first.weight @ stream + first.bias
        z = z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))) / 2
        after.append(stream + second.weight @ z + second.bias)
    return model.readout.weight @ np.concatenate(after) + model.readout.bias


def balanced(model):
    """Both sides of everything that the flow conserves."""
    if hasattr(model, "layers"):
        first, second, dense = model.layers
        for layer, after in ((first, second), (second, dense)):
            outgoing = after.weight.reshape(len(after.weight), -1, len(layer.weight))
            incoming = (layer.weight**2).sum(axis=1) + layer.bias**2
            yield incoming, (outgoing**2).sum(axis=(0, 1))
        return
    (block,) = model.blocks
    w, part = block.attention, len(block.attention.w_q) // block.attention.heads
    of_heads = [slice(i, i + part) for i in range(0, len(w.w_q), part)]
    yield from ((w.w_k[i] @ w.w_k[i].T, w.w_q[i] @ w.w_q[i].T) for i in of_heads)
    yield from ((w.w_v[i] @ w.w_v[i].T, w.w_o[:, i].T @ w.w_o[:, i]) for i in of_heads)


@DEEPER
def test_logits_and_what_the_flow_conserves_there(task):
    problem = task.build(jax.random.key(0))
    rng = np.random.default_rng(0)
    arrays = jax.tree.map(lambda x: x + 0.2 * rng.normal(size=x.shape), problem.params)
    model = problem.model(jax.tree.map(np.asarray, arrays))
    images = np.asarray(problem.data.train.pixels)[:4].reshape(-1, 8, 8)
    logits = convolved if task is CONVOLUTION else attended

    @jax.jit
    def observe(arrays):
        slope = jax.grad(problem.loss)(arrays, problem.data)
        found = jax.vmap(problem.model(arrays))(problem.data.train.pixels[:4])
        rates = jax.jvp(lambda p: list(balanced(problem.model(p))), (arrays,), (slope,))[1]
        zero = jnp.zeros(())
        moment = Snapshot(problem.bare(), zero, arrays, problem.params, slope, problem.data)
        balances = [o.function(moment) for o in task.observables if "balance" in o.name]
        return found, rates, balances

    found, rates, balances = observe(arrays)
    np.testing.assert_allclose(found, [logits(model, image) for image in images], rtol=1e-11)
    for left, right in rates:
        size = norm(left) + norm(right)
        assert size > 1e-3
        assert norm(left - right) <= 1e-13 * size
    drifts = drifts_by_hand(model, problem.model(problem.params))
    np.testing.assert_allclose(np.concatenate(balances, axis=None), drifts, rtol=1e-9)


def drifts_by_hand(now, then):
    drifts = []
    for one, other in zip(balanced(now), balanced(then), strict=True):
        left, right = (np.asarray(x) - np.asarray(y) for x, y in zip(one, other, strict=True))
        drifts.append(norm(left - right) / (norm(left) + norm(right)))
    return drifts


def test_the_flow_conserves_the_balance_of_channels():
    problem = CONVOLUTION.build(jax.random.key(0))
    flow = gf.solve(problem, t1=3.0, rtol=1e-3, solver="tsit5", save=gf.Linear(count=5))
    assert flow["loss"][-1] < 0.9 * flow["loss"][0]
    drifts = drifts_by_hand(flow.final_params, problem.model(problem.params))
    np.testing.assert_allclose(flow["balance_channels"][-1], drifts, rtol=1e-6)
    worst = flow["balance_channels"].max()
    assert CONVOLUTION.invariants(flow) == {"balance_channels": worst}
    assert 0 < worst <= 1e-2
    balance, accuracy = CONVOLUTION.claims(flow)
    assert (balance.held, balance.value) == (True, worst)
    assert (accuracy.held, accuracy.value) == (False, flow["test_accuracy"][-1])


def test_what_was_not_recorded_is_not_claimed():
    nothing = gf.Trajectory({}, {"time": np.arange(3.0)}, 2.0, {}, "end_time")
    for task, names in ((MLP, ["test_accuracy"]), (ATTENTION, [*BALANCES, "test_accuracy"])):
        notes = [claim.note for claim in task.claims(nothing)]
        assert notes == [f"{name} is not recorded" for name in names]


@pytest.mark.parametrize("model", ["logistic", "mlp", "convolution"])
def test_only_attention_has_heads(model):
    with pytest.raises(ValueError, match=f"got 2 for model: {model}; allowed: 1, or model: att"):
        gf.tasks.Digits(model=model, heads=2)
    with pytest.raises(ValueError, match=r"does not divide hidden = 32; .* nearest is 4"):
        gf.tasks.Digits(model="attention", heads=5)


def test_the_gradient_of_a_convex_loss_never_grows():
    def convex(norms):
        times = np.arange(float(len(norms)))
        variables = {"grad_norm": gf.Variable(np.array(norms), ("time",))}
        run = gf.Trajectory(variables, {"time": times}, times[-1], {}, "end_time")
        return LOGISTIC.claims(run)[0]

    assert convex([4.0, 3.0, 2.0, 1.5]).held is True
    assert convex([4.0, 3.0, 2.0, 1.5]).value == pytest.approx(np.log(4 / 3))
    assert convex([4.0, 2.0, 2.5, 1.5]).held is False
    assert convex([4.0, 2.0]).note == "too few save times"
    problem = LOGISTIC.build(jax.random.key(0))
    flow = gf.solve(problem, t1=10.0, rtol=1e-4, solver="tsit5", save=gf.Linear(count=20))
    assert LOGISTIC.claims(flow)[0].held is True
