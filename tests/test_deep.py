"""Several layers and heads against an oracle written from the formulas, and what they conserve."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.linalg import norm
from reference import logistic

import gradflow as gf
from gradflow.config import ConfigError, load
from gradflow.observables import Snapshot, recorded
from gradflow.tasks.cooccurrence import sample_loss
from gradflow.tasks.deep import Attention

SMALL = {
    "samples": 6,
    "length": 4,
    "vocabulary": 7,
    "width": 4,
    "neurons": 3,
    "initialisation": "kaiming-normal",
    "test_samples": 6,
}
TWO = gf.tasks.Deep(**SMALL, layers=2, heads=2)


# The oracle: sentence by sentence, position by position, head by head. Holomorphic in the weights.


def forward(w, layers, a, sentence, heads):
    """F of one sentence, and the softmax weights [layer][head, key, query]."""
    x = list(np.eye(layers[0][0].shape[1])[sentence])
    attention = []
    for w_v, w_k, w_q in layers:
        size = len(w_v) // heads
        attention.append(np.zeros((heads, len(x), len(x)), complex))
        received = []
        for place, query in enumerate(x):
            parts = []
            for head in range(heads):
                rows = slice(head * size, (head + 1) * size)
                logits = np.array([(w_k[rows] @ key) @ (w_q[rows] @ query) for key in x])
                p = np.exp((logits - logits.real.max()) / np.sqrt(size))
                p /= p.sum()
                attention[-1][head, :, place] = p
                parts.append(sum(p[k] * (w_v[rows] @ key) for k, key in enumerate(x)))
            received.append(np.concatenate(parts))
        x = received
    return sum(a_j * (w_j @ o) for o in x for a_j, w_j in zip(a, w, strict=True)), attention


def unpacked(model):
    """W, the matrices of each layer, and a, of the oracle's kind."""
    layers = [[np.asarray(x, complex) for x in (y.w_v, y.w_k, y.w_q)] for y in model.layers]
    return np.asarray(model.w, complex), layers, np.asarray(model.signs)


def loss(w, layers, a, samples, heads):
    outputs = [forward(w, layers, a, sentence, heads)[0] for sentence in np.asarray(samples.tokens)]
    return logistic(np.asarray(samples.labels) * np.array(outputs)).mean()


def complex_step(matrix, function):
    """The derivative of a function of no arguments in each entry of a matrix that it reads."""
    derivative = np.empty(matrix.shape)
    for index in np.ndindex(matrix.shape):
        matrix[index] += 1e-30j
        derivative[index] = function().imag / 1e-30
        matrix[index] -= 1e-30j
    return derivative


@eqx.filter_jit
def observe(problem, arrays):
    """The gradient, and everything that a run records."""
    gradient = jax.grad(problem.loss)(arrays, problem.data)
    slope = jax.tree.map(jnp.negative, gradient)
    zero = jnp.zeros((), problem.dtype)
    moment = Snapshot(problem.bare(), zero, arrays, problem.params, slope, problem.data, zero)
    return gradient, {o.name: o.function(moment) for o in recorded(problem)}


def enlarged(problem):
    """Parameters at which the softmax is far from uniform in every layer."""
    return jax.tree.map(lambda x: 2 * x, problem.params)


@pytest.mark.parametrize(("layers", "heads"), [(1, 2), (2, 2), (3, 1)])
def test_output_and_gradient_equal_the_oracle(layers, heads):
    task = gf.tasks.Deep(**SMALL, layers=layers, heads=heads)
    problem = task.build(jax.random.key(3))
    arrays = enlarged(problem)
    model, samples = problem.model(arrays), problem.data.train
    w, matrices, a = unpacked(model)
    tokens = np.asarray(samples.tokens)
    expected = [forward(w, matrices, a, sentence, heads) for sentence in tokens]
    np.testing.assert_allclose(model(samples.tokens), [f.real for f, _ in expected], rtol=1e-12)
    attention = np.stack([np.array(each).real for _, each in expected], axis=1)
    assert (attention.max(axis=3).mean(axis=(1, 2, 3)) > 0.4).all()
    np.testing.assert_allclose(model.attention(samples.tokens), attention, rtol=1e-12)

    gradient = problem.model(jax.grad(problem.loss)(arrays, problem.data))
    found = [gradient.w, *(x for y in gradient.layers for x in (y.w_v, y.w_k, y.w_q))]
    for x, matrix in zip(found, [w, *(x for y in matrices for x in y)], strict=True):
        exact = complex_step(matrix, lambda: loss(w, matrices, a, samples, heads))
        assert norm(exact) > 1e-4
        assert norm(x - exact) <= 1e-12 * norm(exact)


def test_one_layer_of_one_head_is_the_transformer_of_the_same_key():
    sizes = {**SMALL, "samples": 12, "vocabulary": 16, "width": 10, "neurons": 14}
    for key in map(jax.random.key, (0, 1)):
        one = gf.tasks.Cooccurrence(**sizes).build(key)
        same = gf.tasks.Deep(**sizes, layers=1, heads=1).build(key)
        assert eqx.tree_equal(one.data, same.data)
        gradients, seen = zip(*(observe(p, enlarged(p)) for p in (one, same)), strict=True)
        for x, y in zip(*map(jax.tree.leaves, gradients), strict=True):
            assert norm(x - y) <= 1e-14 * norm(x)
        for name in seen[1]:
            x, y = seen[0].get(name, seen[0]["balance_mlp"]), jnp.squeeze(seen[1][name])
            np.testing.assert_allclose(y, x, rtol=1e-12, atol=1e-13, err_msg=name)


def test_the_first_layer_is_that_of_one_layer_whatever_is_above():
    for key in map(jax.random.key, (0, 1)):
        shallow, deep = (task.build(key) for task in (gf.tasks.Cooccurrence(**SMALL), TWO))
        assert eqx.tree_equal(shallow.data, deep.data)
        one, model = shallow.model(shallow.params), deep.model(deep.params)
        assert eqx.tree_equal(model.layers[0], Attention(one.w_v, one.w_k, one.w_q, heads=2))
        assert eqx.tree_equal((model.w, model.signs), (one.w, one.signs))


def test_a_sentence_of_one_word_has_l_times_the_response_to_it():
    problem = TWO.build(jax.random.key(0))
    model = problem.model(enlarged(problem))
    tokens = jnp.tile(jnp.arange(7)[:, None], (1, 4))
    np.testing.assert_allclose(model(tokens), 4 * model.response(), rtol=1e-13)


def test_what_is_observed_of_every_head():
    problem = TWO.build(jax.random.key(3))
    model = problem.model(enlarged(problem))
    _, seen = observe(problem, enlarged(problem))
    _, (first, second), _ = unpacked(model)
    for words, layer, (_, w_k, w_q) in ((np.eye(7), 0, first), (first[0], 1, second)):
        for head, rows in enumerate((slice(0, 2), slice(2, 4))):
            expected = (w_k[rows] @ words[:, :3]).T @ (w_q[rows] @ words[:, :3])
            np.testing.assert_allclose(
                seen["attention_score"][layer, head], expected.real, rtol=1e-12, atol=1e-14
            )
    # The mean weight between two words, over the sentences that have both.
    weights = np.asarray(model.attention(problem.data.train.tokens))
    sums, counts = np.zeros((2, 2, 3, 3)), np.zeros((3, 3))
    for i, sentence in enumerate(np.asarray(problem.data.train.tokens)):
        for k, key in enumerate(sentence):
            for q, query in enumerate(sentence):
                if max(key, query) < 3:
                    sums[:, :, key, query] += weights[:, i, :, k, q]
                    counts[key, query] += 1
    np.testing.assert_allclose(seen["attention_weight"], sums / counts, rtol=1e-12)


def test_all_of_it_in_float32():
    problem = TWO.build(jax.random.key(3))
    double = observe(problem, problem.params)
    jax.config.update("jax_enable_x64", False)
    try:
        problem = TWO.build(jax.random.key(3))
        single = observe(problem, problem.params)
    finally:
        jax.config.update("jax_enable_x64", True)
    for x, y in zip(*map(jax.tree.leaves, (single, double)), strict=True):
        assert x.dtype == "float32"
        assert norm(np.asarray(x) - np.asarray(y)) <= 1e-5 * norm(y)


@pytest.mark.parametrize(
    ("initialisation", "deviation"),
    [
        ("kaiming-uniform", 1 / np.sqrt(3 * 128)),
        ("kaiming-normal", np.sqrt(2 / 128)),
        ("theory", 1 / np.sqrt(128)),
    ],
)
def test_initialisation_of_deeper_layers(initialisation, deviation):
    task = gf.tasks.Deep(initialisation=initialisation, layers=3, heads=4)
    problem = task.build(jax.random.key(0))
    model = problem.model(problem.params)
    deeper = [x for layer in model.layers[1:] for x in (layer.w_v, layer.w_k, layer.w_q)]
    for i, matrix in enumerate(map(np.asarray, deeper)):
        assert matrix.shape == (128, 128)
        spread = 5 / np.sqrt(2 * matrix.size)
        assert np.std(matrix) == pytest.approx(deviation, rel=spread)
        assert abs(np.mean(matrix)) < 5 * deviation / 128
        assert not any(np.array_equal(matrix, other) for other in deeper[:i])
    if initialisation == "theory":  # values of the norm 1/sqrt(L), scores / sqrt(m/H) of 1/(L m)
        values = jnp.eye(64)
        for layer in model.layers:
            values = values @ layer.w_v.T
            sizes = jnp.sqrt(jnp.mean(jnp.sum(values**2, axis=1)))
            assert sizes == pytest.approx(1 / np.sqrt(5), rel=0.1)
        scores = model.scores(jnp.arange(64)) / np.sqrt(128 / 4)
        np.testing.assert_allclose(jnp.std(scores, axis=(2, 3)), 1 / (5 * 128), rtol=0.3)


# What the flow conserves.


def conserved(model):
    """Both sides of every conserved quantity, whole: R^T R, V V^T; W_K W_K^T, W_Q W_Q^T."""
    for layer, above in zip(model.layers, (*model.layers[1:], None), strict=True):
        readers = (model.w,) if above is None else (above.w_v, above.w_k, above.w_q)
        yield sum(r.T @ r for r in readers), layer.w_v @ layer.w_v.T
        yield layer.w_k @ layer.w_k.T, layer.w_q @ layer.w_q.T


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 2), (3, 2)])
def test_the_derivative_along_the_flow_is_zero_within_heads_and_not_between(layers, heads):
    task = gf.tasks.Deep(**SMALL, layers=layers, heads=heads)
    problem = task.build(jax.random.key(1))
    arrays = enlarged(problem)
    slope = jax.tree.map(jnp.negative, jax.grad(problem.loss)(arrays, problem.data))
    _, rates = jax.jvp(lambda p: list(conserved(problem.model(p))), (arrays,), (slope,))
    within = np.kron(np.eye(heads), np.ones((4 // heads, 4 // heads)))
    for left, right in rates:
        size = norm(left * within) + norm(right * within)
        assert size > 1e-3
        assert norm((left - right) * within) <= 1e-13 * size
        if heads > 1:
            assert norm((left - right) * (1 - within)) > 1e-3 * size


@cache
def flow_of(rtol):
    problem = TWO.build(jax.random.key(0))
    return gf.solve(problem, t1=100.0, rtol=rtol, solver="tsit5", save=gf.Linear(count=50))


@pytest.mark.parametrize("rtol", [1e-3, 1e-6])
def test_the_flow_conserves_them(rtol):
    flow = flow_of(rtol)
    for name in ("balance_values", "balance_attention"):
        assert flow[name].shape == (20, 2, 2)
        assert flow.variables[name].dims[1:] == ("layer", "head")
        assert np.all(flow[name][0] == 0)
        assert 0 < flow[name].max() <= 10 * rtol
    assert np.abs(flow["energy_residual"][1:]).max() <= 10 * rtol
    assert TWO.invariants(flow) == {
        name: flow[name].max() for name in ("balance_values", "balance_attention")
    }


def test_descent_drifts_from_them_at_first_order():
    problem = TWO.build(jax.random.key(0))

    @jax.jit
    def descend(rate, steps):
        def step(_, arrays):
            gradient = jax.grad(problem.loss)(arrays, problem.data)
            return jax.tree.map(lambda p, g: p - rate * g, arrays, gradient)

        return jax.lax.fori_loop(0, steps, step, problem.params)

    drifts = []
    for rate, steps in ((0.02, 100), (0.01, 200)):
        arrays = descend(rate, steps)
        _, seen = observe(problem, arrays)
        drifts.append(jnp.stack([seen["balance_values"], seen["balance_attention"]], axis=1))
        now, then = (conserved(problem.model(p)) for p in (arrays, problem.params))
        for i, (x, y) in enumerate(zip(now, then, strict=True)):
            left, right = (np.asarray(a - b) for a, b in zip(x, y, strict=True))
            for head, rows in enumerate((slice(0, 2), slice(2, 4))):
                sides = left[rows, rows], right[rows, rows]
                expected = norm(sides[0] - sides[1]) / sum(map(norm, sides))
                assert drifts[-1][i // 2, i % 2, head] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(drifts[0] / drifts[1], 2.0, rtol=0.05)


# What is made of a run.


def test_phases_claims_and_figures_are_those_that_have_a_meaning():
    flow = flow_of(1e-6)
    phases = TWO.phases(flow)
    assert phases.keys() == {"T1"}
    assert np.all(flow["min_margin"][flow.time > phases["T1"]] > 0)
    assert np.any(flow["min_margin"][flow.time < phases["T1"]] < 0)
    claims = {claim.name: claim for claim in TWO.claims(flow)}
    assert len(claims) == len(TWO.rows) == 22 + 4 * 2 * 2
    assert not any("not recorded" in claim.note for claim in claims.values())
    t1, times = phases["T1"], flow.time[1:]
    late = times > t1
    for key, query, way, sign in ((1, 2, "rises", 1), (3, 2, "falls", -1)):
        for layer, head in ((1, 1), (1, 2), (2, 1), (2, 2)):
            labels = {"key": key, "query": query, "layer": layer, "head": head}
            score, rate = (
                flow.sel(name, **labels)[1:] for name in ("attention_score", "attention_score_rate")
            )
            claim = claims[f"score (key {key}, query {query}) {way}, layer {layer}, head {head}"]
            start, pace = (np.interp(np.log(t1), np.log(times), x) for x in (score, rate))
            assert claim.value == pytest.approx(score[-1] - start)
            assert claim.held == bool(np.all(sign * np.append(rate[late], pace) > 0))
    assert [f.name for f in TWO.figures] == [
        "attention-layer-1",
        "attention-layer-2",
        "loss",
        "response",
        "balance",
    ]
    scores = flow["attention_score"]
    for i, figure in enumerate(TWO.figures[:2]):
        means = [line.variable(flow)[1] for line in figure.panels[0].lines]
        for head in range(2):
            one = (scores - scores[0])[:, i, head]
            np.testing.assert_allclose(
                means[2 * head], (one[:, 0, 1] + one[:, 1, 0]) / 2, atol=1e-15
            )
            np.testing.assert_allclose(
                means[2 * head + 1], (one[:, 2, 0] + one[:, 2, 1]) / 2, atol=1e-15
            )


def test_momentum_runs_on_it():
    field = gf.fields.HeavyBall(learning_rate=0.1, momentum=0.9)
    task = TWO.build(jax.random.key(0))
    # Without its observables: they take most of the time to compile.
    model = task.model(task.params)
    problem = gf.Problem(params=model, data=task.data, sample_loss=sample_loss)
    flow = gf.solve(problem, t1=20.0, rtol=1e-5, field=field)
    assert flow["loss"][-1] < flow["loss"][0]
    assert np.abs(flow["energy_residual"][1:]).max() <= 1e-4


# Sizes that cannot be.

FAULTS = {
    "heads: 0": "heads: got 0; allowed: a whole number of at least 1",
    "heads: 3": "heads: got 3, which does not divide width = 128; allowed: a divisor of the width, "
    "the nearest is 2, or set width to 129",
    "heads: 200": "heads: got 200, which does not divide width = 128; allowed: a divisor of the "
    "width, the nearest is 128, or set width to 200",
    "layers: 0": "layers: got 0; allowed: a whole number of at least 1",
    "layers: 99": "layers: got 99; allowed: a whole number of at least 1 and of at most 32",
    "width: 0": "width: got 0; allowed: a whole number of at least 1",
    "neurons: 0": "neurons: got 0; allowed: a whole number of at least 1",
    "length: 2": "length: got 2; allowed: a whole number of at least 3",
    "vocabulary: 3": "vocabulary: got 3; allowed: a whole number of at least 4",
    "samples: 10": "samples: got 10; allowed: a whole number of at least 6 and below 2147483648 "
    "and a multiple of 6",
    "repeat: 1.5": "repeat: got 1.5; allowed: a finite number of at least 0 and of at most 1",
}


@pytest.mark.parametrize("field", FAULTS)
def test_impossible_sizes_are_refused_in_one_line(field, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"flow: {{t1: 1}}\nproblem:\n  kind: cooccurrence-deep\n  {field}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    (line,) = str(caught.value).splitlines()
    column = 3 + field.index(" ") + 1
    assert line.startswith(f"{path}:4:{column}: problem.{FAULTS[field]}"), line
