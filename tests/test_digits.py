"""Handwritten digits: the data, the losses and their gradients against NumPy and SciPy."""

import jax
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.datasets import load_digits

import gradflow as gf
from gradflow.tasks.digits import sample_loss

LOGISTIC = gf.tasks.Digits(samples=300)
MLP = gf.tasks.Digits(model="mlp", hidden=7, samples=300)


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


@pytest.mark.parametrize("task", [LOGISTIC, MLP], ids=["logistic", "mlp"])
def test_float32_starts_at_the_same_point(task):
    double = task.build(jax.random.key(0))
    jax.config.update("jax_enable_x64", False)
    try:
        single = task.build(jax.random.key(0))
        assert single.dtype == np.float32
        assert np.isfinite(single.loss(scaled(single, 1e5), single.data))
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
