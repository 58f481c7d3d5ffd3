"""Which layers of a model the flow is said to balance, and which not."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from layered import KEYS, at, diagonals, identity, linear, mlp, relu, sequence, sides
from numpy.linalg import norm

import gradflow as gf
from gradflow.invariants import automatic, balancedness


@pytest.fixture(params=["float64", "float32"])
def precision(request):
    jax.config.update("jax_enable_x64", request.param == "float64")
    yield request.param
    jax.config.update("jax_enable_x64", True)


class Twice(eqx.Module):
    """An activation that is a module."""

    factor: float = 2.0

    def __call__(self, x, key=None):
        return self.factor * x


class Fixed(eqx.Module):
    """An activation with an array."""

    factor: jax.Array

    def __call__(self, x, key=None):
        return self.factor * x


def whole_of(model):
    """Whether the whole matrix is conserved; ``None`` for no pair."""
    found = balancedness(gf.Problem(lambda model, data: jnp.sum(model(data)), model, jnp.ones(3)))
    return None if found is None else found.function.pairs[0].whole


@pytest.mark.parametrize(
    ("activation", "whole"),
    [
        (identity, True),
        (lambda x: 2 * x, True),
        (lambda x: 1e-3 * x, True),
        (lambda x: -x, True),
        (Twice(), True),
        (jax.nn.relu, False),
        (jax.jit(jax.nn.relu), False),
        (lambda x: jnp.maximum(x, 0), False),
        (lambda x: (x + jnp.sqrt(x * x)) / 2, False),
        (jax.nn.leaky_relu, False),
        (jnp.abs, False),
        (partial(jax.nn.leaky_relu, negative_slope=1.5), False),
        (lambda x: x + 1e-3, None),
        (jnp.tanh, None),
        (jax.nn.gelu, None),
        (jax.nn.silu, None),
        (jax.nn.softplus, None),
        (jax.nn.elu, None),
        (partial(jax.nn.celu, alpha=1e-2), None),
        (jax.nn.relu6, None),
        (jax.nn.hard_tanh, None),
        (jnp.square, None),
        (jnp.exp, None),
        (jnp.log, None),
        (lambda x: jnp.where(jnp.abs(x) > 0.1, x, 0.0), None),
        (eqx.nn.PReLU(), None),
        (Fixed(jnp.asarray(2.0)), None),
        (Fixed(jnp.asarray(2)), None),
    ],
)
def test_activations(precision, activation, whole):
    array = jnp.float64 if precision == "float64" else jnp.float32
    model = eqx.nn.MLP(3, 2, 5, 1, activation, key=KEYS[0])
    layers = linear(0, 3, 5), eqx.nn.Lambda(activation), linear(1, 5, 2)
    for each in (model, sequence(*layers)):
        each = jax.tree.map(lambda x: x.astype(array) if eqx.is_inexact_array(x) else x, each)
        assert whole_of(each) is whole


@pytest.mark.parametrize(
    ("function", "whole"),
    [
        (lambda x: x * jnp.asarray([1.0, 1.0, 1.0, 1.0]), True),
        (lambda x: x * jnp.asarray([1.0, 2.0, 1.0, 1.0]), False),  # each neuron its own
        (jax.nn.softmax, None),
        (lambda x: x[::-1], None),
        (lambda x: x / jnp.linalg.norm(x), None),
        (lambda x: jax.nn.relu(x) + 0 * x[0], False),
        (lambda x: x - jnp.mean(x), None),
        (jnp.sort, None),
        (jnp.cumsum, None),
        (lambda x: x * jnp.sign(x[0]), None),
        (lambda x: x.at[0].set(jnp.tanh(x[0])), None),
        (eqx.nn.LayerNorm(4), None),
        (eqx.nn.LayerNorm(4, use_weight=False, use_bias=False), None),
        (eqx.nn.Dropout(0.5, inference=True), True),
    ],
)
def test_functions_of_vectors(function, whole):
    assert whole_of(sequence(linear(0, 3, 4), function, linear(1, 4, 2))) is whole


def test_a_function_that_needs_more_than_a_vector_is_left_alone():
    def loss(model, data):
        return jnp.sum(model(data, key=jax.random.key(0)))

    model = sequence(linear(0, 3, 4), eqx.nn.Dropout(0.5), linear(1, 4, 2))
    assert balancedness(gf.Problem(loss, model, jnp.ones(3))) is None


class Net(eqx.Module):
    """A user's own: two models and a layer, in an order that only `__call__` knows."""

    body: eqx.nn.MLP
    heads: list
    last: eqx.nn.Linear
    scale: jax.Array


class Unlike(eqx.nn.MLP):
    """An MLP that may do anything."""


def norm_of(model, data):
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    return sum(jnp.sum(leaf**2) for leaf in leaves)


def labels_of(params):
    found = automatic(gf.Problem(norm_of, params))
    return [label for each in found for label in each.axes[0][1]]


def test_models_inside_of_the_parameters():
    body = eqx.nn.MLP(3, 4, 5, 1, key=KEYS[0])
    assert labels_of({"scale": jnp.ones(2), "net": body}) == ["net.layers.0 net.layers.1"]
    head = sequence(linear(1, 4, 3), linear(2, 3, 2))
    net = Net(body, [head, body], linear(3, 2, 2), jnp.ones(3))
    names = ["body", "heads.0", "heads.1"]
    expected = [f"{name}.layers.0 {name}.layers.1" for name in names]
    assert labels_of(net) == expected
    assert labels_of([net]) == [
        " ".join(f"0.{part}" for part in label.split()) for label in expected
    ]
    # The right arrays among all.
    problem = gf.Problem(norm_of, net)
    values = at(problem, jax.tree.map(lambda x: x / 2, problem.params))
    for value, model in zip(values, (body, head, body), strict=True):
        left, right = sides(model, lambda m: m.layers)
        if model is body:
            left, right = diagonals((left, right))
        assert value == pytest.approx(norm(left - right) / (norm(left) + norm(right)))


def test_where_nothing_is_known_nothing_is_claimed():
    layers = (linear(0, 3, 3), linear(1, 3, 3))
    assert labels_of({"w_1": jnp.ones((3, 3)), "w_2": jnp.ones((3, 3))}) == []
    assert labels_of(layers) == []
    assert labels_of(layers[0]) == []
    assert labels_of(mlp(relu, depth=0)) == []
    assert labels_of(mlp(jnp.tanh)) == []
    assert labels_of(Unlike(3, 2, 5, 2, key=KEYS[0])) == []
    ensemble = eqx.filter_vmap(lambda key: eqx.nn.MLP(3, 2, 5, 2, key=key))(KEYS)
    assert labels_of(ensemble) == []
    stacked = eqx.filter_vmap(lambda key: eqx.nn.MLP(3, 2, 5, 3, scan=True, key=key))(KEYS)
    assert labels_of(stacked) == []
    tied = eqx.nn.Shared(sequence(*layers), lambda m: m[1].weight, lambda m: m[0].weight)
    assert labels_of(tied) == []
    fixed = eqx.tree_at(lambda m: m[1].weight, sequence(*layers), jnp.ones((3, 3), int))
    assert labels_of(fixed) == []
    assert labels_of(sequence(eqx.nn.Conv1d(3, 3, 1, key=KEYS[0]), linear(0, 3, 3))) == []


def test_a_vector_field_balances_nothing():
    model = mlp(relu)
    problem = gf.Problem(vector_field=lambda t, params, data: params, params=model)
    assert balancedness(problem) is None
    assert "balancedness" not in gf.solve(problem, t1=0.1)
