"""Models of layers that the flow balances, and by hand what it conserves."""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.linalg import norm

import gradflow as gf
from gradflow.invariants import balancedness
from gradflow.observables import Snapshot

KEYS = jax.random.split(jax.random.key(7), 9)


def identity(x):
    return x


def linear(i, inputs, outputs, **options):
    return eqx.nn.Linear(inputs, outputs, key=KEYS[i], **options)


def mlp(activation, depth=2, **options):
    return eqx.nn.MLP(3, 2, 5, depth, activation, key=KEYS[0], **options)


def sequence(*parts):
    """Functions become layers of their own."""
    layers = [x if isinstance(x, eqx.Module) else eqx.nn.Lambda(x) for x in parts]
    return eqx.nn.Sequential(layers)


def row(layer, i):
    return jax.tree.map(lambda x: x[i], layer)


class Case(NamedTuple):
    """A model, and by hand: its pairs' layers, labels and whether the whole matrix is kept."""

    model: eqx.Module
    pairs: list


HIDDEN = [(lambda m, i=i: m.layers[i : i + 2], f"layers.{i} layers.{i + 1}") for i in range(2)]
WHOLE = [(*pair, True) for pair in HIDDEN]
DIAGONAL = [(*pair, False) for pair in HIDDEN]
relu, leaky_relu = jax.nn.relu, jax.nn.leaky_relu

CASES = {
    "linear": Case(mlp(identity), WHOLE),
    "negative": Case(mlp(lambda x: -2 * x, use_bias=False), WHOLE),
    "relu": Case(mlp(relu), DIAGONAL),
    "leaky": Case(mlp(partial(leaky_relu, negative_slope=0.2), use_final_bias=False), DIAGONAL),
    "absolute": Case(mlp(jnp.abs, final_activation=jnp.tanh), DIAGONAL),
    "scan": Case(
        mlp(relu, depth=3, scan=True),
        [
            (lambda m: (m.layers[0], row(m.layers[1], 0)), "layers.0 layers.1.0", False),
            (lambda m: (row(m.layers[1], 0), row(m.layers[1], 1)), "layers.1.0 layers.1.1", False),
            (lambda m: (row(m.layers[1], 1), m.layers[2]), "layers.1.1 layers.2", False),
        ],
    ),
    "sequential": Case(
        sequence(
            linear(0, 3, 4), relu, leaky_relu, linear(1, 4, 5), linear(2, 5, 6),
            jnp.tanh, linear(3, 6, 4, use_bias=False), eqx.nn.Identity(), linear(4, 4, 2),
        ),
        [
            (lambda m: (m[0], m[3]), "layers.0 layers.3", False),
            (lambda m: (m[3], m[4]), "layers.3 layers.4", True),
            (lambda m: (m[6], m[8]), "layers.6 layers.8", True),
        ],
    ),
    "inside": Case(
        sequence(
            linear(0, 3, 4),
            sequence(relu, linear(1, 4, 5)),
            eqx.nn.MLP(5, "scalar", 4, 1, relu, lambda x: 3 * x, key=KEYS[2]),
            linear(3, "scalar", 2),
        ),
        [
            (lambda m: (m[0], m[1][1]), "layers.0 layers.1.layers.1", False),
            (lambda m: (m[1][1], m[2].layers[0]), "layers.1.layers.1 layers.2.layers.0", True),
            (lambda m: m[2].layers, "layers.2.layers.0 layers.2.layers.1", False),
            (lambda m: (m[2].layers[1], m[3]), "layers.2.layers.1 layers.3", True),
        ],
    ),
}  # fmt: skip


def mean_squared(model, data):
    x, y = data
    return jnp.mean((jax.vmap(model)(x) - y) ** 2)


def cross_entropy(model, data):
    x, y = data
    return -jnp.sum(jax.nn.softmax(y) * jax.nn.log_softmax(jax.vmap(model)(x)), axis=1)


def decayed(model, data):
    squares = [jnp.sum(x**2) for x in jax.tree.leaves(eqx.filter(model, eqx.is_array))]
    return mean_squared(model, data) + 0.1 * sum(squares)


def problem_of(model, loss=mean_squared):
    rng = np.random.default_rng(0)
    model = jax.tree.map(lambda x: x.astype(float) if eqx.is_array(x) else x, model)
    x = rng.normal(size=(12, 3))
    data = jax.tree.map(lambda a: jnp.asarray(a, float), (x, np.sin(2 * x[:, :2])))
    keyword = "sample_loss" if loss is cross_entropy else "loss"
    return gf.Problem(params=model, data=data, **{keyword: loss})


def sides(model, pair):
    """[W_1 b_1] [W_1 b_1]^T and W_2^T W_2, as they are defined."""
    first, second = pair(model)
    left = first.weight @ first.weight.T
    if first.bias is not None:
        left += jnp.outer(first.bias, first.bias)
    return left, second.weight.T @ second.weight


def diagonals(matrices):
    return [np.diag(matrix) for matrix in matrices]


def drift_by_hand(now, then, pair, whole):
    left, right = (
        np.asarray(y) - np.asarray(x)
        for x, y in zip(sides(then, pair), sides(now, pair), strict=True)
    )
    if not whole:
        left, right = np.diag(left), np.diag(right)
    return norm(left - right) / (norm(left) + norm(right))


def at(problem, arrays):
    """What the observable says of a run that is at `arrays`."""
    zero = jnp.zeros((), problem.dtype)
    moment = Snapshot(problem.bare(), zero, arrays, problem.params, arrays, problem.data)
    return balancedness(problem).function(moment)
