"""Next-token prediction: the model against loops, the counts, and what is known of a run."""

from collections import Counter
from functools import cache

import equinox as eqx
import jax
import numpy as np
import pytest
from numpy.linalg import norm
from scipy.special import log_softmax, softmax

import gradflow as gf
from gradflow.observables import Snapshot, recorded
from gradflow.tasks.next_token import NAMES, empirical
from gradflow.tasks.next_token.data import draw, transitions

SMALL = {"vocabulary": 3, "sequences": 6, "length": 8, "test_sequences": 5}
TWO = gf.tasks.NextToken(**SMALL, width=4, neurons=5, layers=2, heads=2, context=3, scale=2.0)


# The oracle: position by position and head by head, of one sequence.


def gelu(x):
    """In the approximation by tanh."""
    return x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2


def forward(model, tokens):
    """Logits, and the softmax weights [layer, head, query, key]."""
    model = jax.tree.map(lambda x: np.asarray(x) if eqx.is_array(x) else x, model)
    x = [model.embedding[token] for token in tokens]
    weights = np.zeros((len(model.blocks), model.biases.shape[1], len(x), len(x)))
    for layer, block in enumerate(model.blocks):
        attention, (first, second) = block.attention, block.mlp.layers
        w_q, w_k, w_v, w_o = attention.w_q, attention.w_k, attention.w_v, attention.w_o
        part = len(w_q) // attention.heads
        received = []
        for query, own in enumerate(x):
            keys = range(max(0, query - model.biases.shape[2] + 1), query + 1)
            parts = []
            for head in range(attention.heads):
                rows = slice(head * part, (head + 1) * part)
                p = softmax(
                    [
                        (w_q[rows] @ own) @ (w_k[rows] @ x[key]) / np.sqrt(part)
                        + model.biases[layer, head, query - key]
                        for key in keys
                    ]
                )
                weights[layer, head, query, keys] = p
                parts.append(sum(p[i] * (w_v[rows] @ x[key]) for i, key in enumerate(keys)))
            received.append(w_o @ np.concatenate(parts))
        x = [own + more for own, more in zip(x, received, strict=True)]
        x = [own + second.weight @ gelu(first.weight @ own + first.bias) + second.bias for own in x]
    head = model.unembedding
    return np.array([head.weight @ own + head.bias for own in x]), weights


@eqx.filter_jit
def observe(problem, arrays):
    """The gradient, and everything that a run records."""
    gradient = jax.grad(problem.loss)(arrays, problem.data)
    slope = jax.tree.map(jax.numpy.negative, gradient)
    zero = jax.numpy.zeros((), problem.dtype)
    moment = Snapshot(problem.bare(), zero, arrays, problem.params, slope, problem.data, zero)
    rates = jax.jvp(lambda p: conserved(problem.model(p)), (arrays,), (slope,))[1]
    return {o.name: o.function(moment) for o in recorded(problem)}, rates


def elsewhere(problem, seed=0):
    """Parameters with biases, at which the softmax is far from uniform."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape), problem.params)


def conserved(model):
    """Head by head both sides of what the flow conserves."""
    sides = []
    for block in model.blocks:
        a = block.attention
        part = len(a.w_q) // a.heads
        for head in range(a.heads):
            rows = slice(head * part, (head + 1) * part)
            sides.append((a.w_k[rows] @ a.w_k[rows].T, a.w_q[rows] @ a.w_q[rows].T))
            sides.append((a.w_v[rows] @ a.w_v[rows].T, a.w_o[:, rows].T @ a.w_o[:, rows]))
    return sides


def test_all_that_is_recorded_equals_the_oracle():
    problem = TWO.build(jax.random.key(0))
    arrays = elsewhere(problem)
    model, data = problem.model(arrays), problem.data
    seen, rates = observe(problem, arrays)

    train = np.asarray(data.train)
    found = [forward(model, tokens) for tokens in train[:, :-1]]
    predicted = log_softmax([logits for logits, _ in found], axis=2)
    losses = -np.take_along_axis(predicted, train[:, 1:, None], axis=2)[..., 0]
    assert seen["loss"] == pytest.approx(losses.mean(), rel=1e-12)
    np.testing.assert_allclose(seen["position_loss"], losses.mean(axis=0), rtol=1e-12)
    test = np.asarray(data.test)
    fresh = log_softmax([forward(model, tokens)[0] for tokens in test[:, :-1]], axis=2)
    expected = -np.take_along_axis(fresh, test[:, 1:, None], axis=2).mean()
    assert seen["test_loss"] == pytest.approx(expected, rel=1e-12)

    ngrams = np.asarray(data.ngrams)
    for name, q, divergence in zip(NAMES, ngrams, seen["divergence"], strict=True):
        ratio = np.log(np.where(q > 0, q, 1)) - predicted
        assert divergence == pytest.approx((q * ratio).sum(axis=2).mean(), rel=1e-11), name

    weights = np.array([each for _, each in found])
    for lag in range(TWO.context):
        of_lag = [weights[:, :, :, q, q - lag] for q in range(TWO.context - 1, 7)]
        np.testing.assert_allclose(
            seen["attention_weight"][..., lag], np.mean(of_lag, axis=(0, 1)), rtol=1e-12
        )
    assert np.abs(seen["attention_weight"] - 1 / TWO.context).max() > 0.1

    # What the flow conserves, and how far this point is from where it would be.
    now, then = conserved(model), conserved(problem.model(problem.params))
    drifts = []
    for (x, y), (x0, y0), (left, right) in zip(now, then, rates, strict=True):
        size = norm(left) + norm(right)
        assert size > 1e-4
        assert norm(left - right) <= 1e-13 * size
        drifts.append(norm((x - x0) - (y - y0)) / (norm(x - x0) + norm(y - y0)))
    drifts = np.reshape(drifts, (TWO.layers, TWO.heads, 2))
    for i, name in enumerate(("balance_attention", "balance_values")):
        np.testing.assert_allclose(seen[name], drifts[..., i], rtol=1e-9)


def test_predictions_depend_on_the_last_tokens_alone():
    problem = TWO.build(jax.random.key(0))
    model = eqx.filter_jit(problem.model(elsewhere(problem)))
    tokens = np.asarray(problem.data.train[0])
    for place in range(8):
        other = tokens.copy()
        other[place] = (other[place] + 1) % 3
        changed = np.any(np.asarray(model(tokens)) != np.asarray(model(other)), axis=1)
        reached = (np.arange(8) >= place) & (np.arange(8) < place + TWO.seen)
        assert changed.tolist() == reached.tolist()


# The data.


@pytest.mark.parametrize("seen", [0, 1, 2, 4])
def test_conditional_entropies_are_those_of_a_direct_count(seen):
    tokens = np.random.default_rng(1).integers(3, size=(5, 9))
    places = [
        (tuple(row[max(0, i + 1 - seen) : i + 1]), row[i + 1]) for row in tokens for i in range(8)
    ]
    pairs, contexts = Counter(places), Counter(context for context, _ in places)
    found = empirical(tokens, 3, seen).reshape(-1, 3)
    for (context, _), distribution in zip(places, found, strict=True):
        exact = [pairs[context, token] / contexts[context] for token in range(3)]
        np.testing.assert_allclose(distribution, exact, rtol=1e-14)
    entropy = -sum(n * np.log(n / contexts[context]) for (context, _), n in pairs.items()) / 40
    problem = gf.tasks.next_token.data.collected(tokens, tokens, 3, 2, seen)
    assert problem.bound == pytest.approx(entropy, rel=1e-13)
    if seen < 3:
        assert problem.entropies[seen + 1] == pytest.approx(entropy, rel=1e-13)
    assert problem.entropies[0] == pytest.approx(np.log(3))
    assert np.all(np.diff(problem.entropies) < 0)


@pytest.mark.parametrize("order", [1, 2])
def test_sequences_follow_the_chain(order):
    rng = np.random.default_rng(0)
    chain = transitions(rng, 3, order, 0.5)
    np.testing.assert_allclose(chain.sum(axis=-1), 1)
    tokens = draw(rng, chain, 300, 100)
    counts = np.zeros(chain.shape)
    np.add.at(counts, tuple(tokens[:, i : 100 - order + i] for i in range(order + 1)), 1)
    contexts = counts.sum(axis=-1, keepdims=True)
    deviation = np.sqrt(contexts * chain * (1 - chain))
    assert np.all(np.abs(counts - contexts * chain) <= 5 * deviation + 1e-9)
    # Started long before, so that the first tokens are as frequent as the last.
    first, last = (np.bincount(tokens[:, i], minlength=3) for i in (0, 99))
    assert np.all(np.abs(first - last) <= 5 * np.sqrt(first + last + 1))


def test_float32_starts_at_the_same_point():
    double = TWO.build(jax.random.key(0))
    jax.config.update("jax_enable_x64", False)
    try:
        single = TWO.build(jax.random.key(0))
    finally:
        jax.config.update("jax_enable_x64", True)
    assert single.dtype == np.float32
    assert eqx.tree_equal(
        jax.tree.map(lambda x: np.asarray(x, float), single.params),
        jax.tree.map(np.asarray, double.params),
    )
    assert np.array_equal(single.data.train, double.data.train)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 3}, "heads.*got 3, which does not divide width = 16; .* nearest is 2, .* 18"),
        ({"length": 4, "context": 4}, "context.*got 4; allowed: at most 3, .* set length to 5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        gf.tasks.NextToken(**fields)


# A run.

TASK = gf.tasks.NextToken(
    vocabulary=3, concentration=0.2, sequences=20, length=12, width=8, neurons=16
)
RTOL = 1e-3


@cache
def flow():
    problem = TASK.build(jax.random.key(0))
    return gf.solve(problem, t1=100.0, rtol=RTOL, solver="tsit5", save=gf.Logarithmic(count=60))


def test_unigrams_are_learnt_before_bigrams_before_trigrams():
    times = TASK.phases(flow())
    assert list(times) == ["T1", "T2", "T3"]
    assert 0 < times["T1"] < times["T2"] < times["T3"] < 100
    divergence = flow()["divergence"]
    nearest = np.argmin(divergence, axis=0)
    assert np.all(np.diff(nearest) > 0)
    assert np.all(divergence[nearest, range(4)][1:] < divergence[0, 1:] / 3)
    for k, time in enumerate(times.values(), 1):
        ahead = divergence[:, k - 1] - divergence[:, k]
        assert np.interp(time, flow().time, ahead) == pytest.approx(0, abs=1e-2)
        assert ahead[0] < 0


def test_what_is_known_of_it():
    excess = flow()["loss"] - flow()["loss_bound"]
    # The model looks at as many tokens as trigrams do, which have the least loss.
    np.testing.assert_allclose(flow().sel("divergence", ngram="trigram"), excess, rtol=1e-9)
    least = excess.min()
    assert 0 < least < flow()["loss"][0] / 2
    claims = {claim.name: claim for claim in TASK.claims(flow())}
    assert [claim.held for claim in claims.values()] == [True] * 5
    assert claims["loss > that of the tokens' own counts"].value == pytest.approx(least)
    times = list(TASK.phases(flow()).values())
    assert claims["T1 < T2 < T3"].value == pytest.approx(min(np.divide(times[1:], times[:-1])))
    assert np.abs(flow()["energy_residual"][1:]).max() <= 10 * RTOL
    for name, drift in TASK.invariants(flow()).items():
        assert 0 < drift == flow()[name].max() <= 10 * RTOL


def test_a_run_that_ends_too_early_or_goes_another_way_is_told_so():
    whole = flow()
    crossings = dict(whole.crossings)
    t1, t2, _ = TASK.phases(whole).values()
    other = gf.Trajectory(
        {"divergence": gf.Variable(whole["divergence"][:, ::-1], ("time", "ngram"))},
        whole.coords,
        10.0,
        {},
        "end_time",
        crossings=crossings | {"T1": whole.crossings["T2"], "T2": whole.crossings["T1"]},
        event_values=dict(whole.event_values),
    )
    swapped, nearest, bound, *_ = TASK.claims(other)
    assert (swapped.held, swapped.value) == (False, pytest.approx(t1 / t2))
    assert nearest.held is False
    assert (bound.held, bound.note) == (None, "loss is not recorded")
    never = {"T3": np.empty((0, 2))}
    early = gf.Trajectory(
        {}, whole.coords, 10.0, {}, "end_time", crossings=crossings | never,
        event_values=whole.event_values | {"T3": -1.0},
    )  # fmt: skip
    ordered, nearest, *_ = TASK.claims(early)
    assert (ordered.held, ordered.note) == (None, "T3 is not reached by t = 10")
    assert (nearest.held, nearest.note) == (None, "divergence is not recorded")
    assert TASK.phases(early)["T3"] is None
