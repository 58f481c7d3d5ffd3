"""The co-occurrence problem against the oracle in reference.py, and against the paper's claims."""

import math
from functools import cache
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference as ref
from numpy.linalg import norm
from problems import flat, relative_errors
from scipy.stats import chisquare
from threadpoolctl import threadpool_limits

import gradflow as gf
from gradflow.observables import Snapshot, recorded

# Both ways to compute attention: a table of all pairs of words, and the words of each sentence.
TABLE = gf.tasks.Cooccurrence(samples=12, length=4, vocabulary=16, width=10, neurons=14)
WORDWISE = gf.tasks.Cooccurrence(samples=6, length=3, vocabulary=64, width=10, neurons=14)

# One compiled program serves all runs of the paper's size: same solver, same number of saves.
PAPER = gf.tasks.Cooccurrence()
TIMES = [0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]


def as_reference(model, samples):
    """A model and its sentences as the oracle takes them: weights, a, tokens, labels."""
    weights = (np.asarray(x, np.float64) for x in (model.w, model.w_v, model.w_k, model.w_q))
    rest = (model.signs, samples.tokens, samples.labels)
    return ref.Weights(*weights), *map(np.asarray, rest)


def scaled(problem, factors):
    """The parameters with W, W_V, W_K, W_Q multiplied by these factors."""
    leaves, structure = jax.tree.flatten(problem.params)
    return structure.unflatten([f * x for f, x in zip(factors, leaves, strict=True)])


@eqx.filter_jit
def observe(problem, arrays):
    """The gradient, and everything that a run records."""
    gradient = jax.grad(problem.loss)(arrays, problem.data)
    slope = jax.tree.map(jnp.negative, gradient)
    zero = jnp.zeros((), problem.dtype)
    moment = Snapshot(problem.bare(), zero, arrays, problem.params, slope, problem.data, zero)
    return gradient, {o.name: o.function(moment) for o in recorded(problem)}


@pytest.fixture(params=["float64", "float32"])
def precision(request):
    jax.config.update("jax_enable_x64", request.param == "float64")
    yield request.param
    jax.config.update("jax_enable_x64", True)


def solve(problem, rtol, t1=300.0, times=TIMES):
    save = gf.Explicit(times=times)
    extra = {"flat": flat}
    return gf.solve(problem, t1=t1, rtol=rtol, solver="tsit5", observables=extra, save=save)


# Data.


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("n", "length", "vocabulary", "unique"),
    [(6, 3, 4, False), (60, 5, 64, False), (60, 5, 163, True), (12, 3, 11, True)],
)
def test_sentences_follow_definition_2_1(seed, n, length, vocabulary, unique):
    task = gf.tasks.Cooccurrence(
        samples=n, length=length, vocabulary=vocabulary, unique_words=unique, test_samples=120
    )
    data = task.build(jax.random.key(seed)).data
    for samples, size in ((data.train, n), (data.test, 120)):
        tokens, labels, kinds = map(np.asarray, samples)
        assert tokens.shape == (size, length)
        assert np.array_equal(np.bincount(kinds), [size // 2, size // 6, size // 6, size // 6])
        assert np.array_equal(ref.classes(tokens), kinds)
        assert np.array_equal(labels, np.where(kinds == 0, 1.0, -1.0))
        assert np.all((tokens == 2).sum(axis=1) == 1)
        assert np.all((tokens < 2).sum(axis=1) == np.array([2, 1, 1, 0])[kinds])
        assert tokens.min() == 0
        assert tokens.max() < vocabulary
    if unique:
        words = np.asarray(data.train.tokens)
        words = words[words >= 3]
        assert len(set(words.tolist())) == len(words) == 8 * n // 3 + n * (length - 5)


def test_random_words_and_positions_are_uniform():
    task = gf.tasks.Cooccurrence(samples=6000, length=8, vocabulary=20)
    samples = task.build(jax.random.key(0)).data.train
    tokens, kinds = np.asarray(samples.tokens), np.asarray(samples.kinds)
    assert chisquare(np.bincount(tokens[tokens >= 3])[3:]).pvalue > 1e-3
    # Two random words of one sentence are independent.
    first, second = np.stack([row[row >= 3][:2] - 3 for row in tokens]).T
    assert chisquare(np.bincount(17 * first + second, minlength=289)).pvalue > 1e-3
    for word in range(3):
        assert chisquare((tokens == word).sum(axis=0)).pvalue > 1e-3
    # The places of the two targets are uniform over all pairs that differ.
    both = tokens[kinds == 0]
    pairs = np.bincount(8 * both.argmin(axis=1) + (both == 1).argmax(axis=1), minlength=64)
    pairs = pairs.reshape(8, 8)
    assert np.all(np.diag(pairs) == 0)
    assert chisquare(pairs[~np.eye(8, dtype=bool)]).pvalue > 1e-3


def random_words(task, seed):
    """For every training sentence its random words, numbered from 0."""
    tokens = np.asarray(task.build(jax.random.key(seed)).data.train.tokens)
    return [row[row >= 3] - 3 for row in tokens]


def test_repeated_words_are_a_markov_chain_along_the_sentence():
    task = gf.tasks.Cooccurrence(samples=6000, length=8, vocabulary=20, repeat=0.4)
    words = random_words(task, 0)
    assert chisquare(np.bincount([row[2] for row in words])).pvalue > 1e-3  # uniform ever after
    for apart in (1, 2):
        agree = np.array([row[0] == row[apart] for row in words])
        chance = 0.4**apart + (1 - 0.4**apart) / 17
        spread = math.sqrt(chance * (1 - chance) / len(agree))
        assert abs(agree.mean() - chance) < 4 * spread


def test_what_is_not_repeated_is_as_drawn_without_repetition():
    sizes = {"samples": 60, "length": 8, "vocabulary": 200}
    fresh = gf.tasks.Cooccurrence(**sizes)
    for repeat in (0.5, 1.0):
        task = gf.tasks.Cooccurrence(**sizes, repeat=repeat)
        one, other = (t.build(jax.random.key(0)) for t in (fresh, task))
        assert eqx.tree_equal(one.params, other.params)
        for part in ("train", "test"):
            x, y = (np.asarray(getattr(p.data, part).tokens) for p in (one, other))
            assert np.array_equal(np.where(x < 3, x, 3), np.where(y < 3, y, 3))
        for x, y in zip(random_words(fresh, 0), random_words(task, 0), strict=True):
            assert y[0] == x[0]
            assert np.all((y[1:] == x[1:]) | (y[1:] == y[:-1]))
            assert repeat < 1 or np.all(y == x[0])


def test_words_cannot_be_unique_and_repeated():
    with pytest.raises(ValueError, match=r"repeat = 0.3 repeats them; allowed: repeat: 0, or uni"):
        gf.tasks.Cooccurrence(unique_words=True, vocabulary=163, repeat=0.3)


def test_too_small_a_vocabulary_is_refused_with_the_one_needed():
    with pytest.raises(ValueError, match=r"needs 160 random words .* at least 163"):
        gf.tasks.Cooccurrence(unique_words=True)
    with pytest.raises(ValueError, match="has 159; set vocabulary to at least 163"):
        gf.tasks.Cooccurrence(unique_words=True, vocabulary=162)


def test_a_key_stands_for_one_draw():
    one, same, other = (PAPER.build(jax.random.key(seed)) for seed in (0, 0, 1))
    assert eqx.tree_equal(one.params, same.params)
    assert eqx.tree_equal(one.data, same.data)
    assert not np.array_equal(one.data.train.tokens, other.data.train.tokens)
    assert not np.array_equal(one.params.w, other.params.w)
    # What is trained on does not depend on the width, nor on how weights are drawn.
    wide = gf.tasks.Cooccurrence(width=200, initialisation="theory", test_samples=6)
    assert eqx.tree_equal(wide.build(jax.random.key(0)).data.train, one.data.train)


# The model.


@pytest.mark.parametrize(
    ("initialisation", "deviations"),
    [  # of W (256, 128) and of W_V, W_K, W_Q (128, 64)
        ("kaiming-uniform", (1 / math.sqrt(3 * 128), 1 / math.sqrt(3 * 64))),
        ("kaiming-normal", (math.sqrt(2 / 128), math.sqrt(2 / 64))),
        ("theory", (1 / math.sqrt(256), 1 / math.sqrt(5 * 128))),
    ],
)
def test_initialisations(initialisation, deviations):
    problem = gf.tasks.Cooccurrence(initialisation=initialisation).build(jax.random.key(0))
    weights, a, *_ = as_reference(problem.model(problem.params), problem.data.train)
    assert len(jax.tree.leaves(problem.params)) == 4  # a is not trained
    assert np.array_equal(np.unique(a), [-1, 1])
    assert abs(a.sum()) < 4 * math.sqrt(256)
    for matrix, deviation in zip(weights, np.repeat(deviations, [1, 3]), strict=True):
        spread = 5 / math.sqrt(2 * matrix.size)
        assert np.std(matrix) == pytest.approx(deviation, rel=spread)
        assert abs(np.mean(matrix)) < 5 * deviation / math.sqrt(matrix.size)
        largest = np.abs(matrix).max() / deviation
        assert largest < math.sqrt(3) if initialisation == "kaiming-uniform" else largest > 3


# Weights as drawn; margins of a few; margins of a thousand and more, attention all on one word.
@pytest.mark.parametrize("factors", [(1, 1, 1, 1), (9, 3, 4, 5), (4e3, 9, 30, 40)])
@pytest.mark.parametrize("task", [TABLE, WORDWISE], ids=["table", "wordwise"])
def test_everything_equals_the_oracle(task, factors):
    problem = task.build(jax.random.key(5))
    arrays = scaled(problem, factors)
    gradient, seen = observe(problem, arrays)
    oracle = as_reference(problem.model(arrays), problem.data.train)
    margins = oracle[3] * ref.predict(*oracle[:3])
    assert np.abs(margins).max() > (1e3 if factors[0] > 1e3 else 0)
    assert margins.min() < 0 < margins.max()

    expected = ref.observables(*oracle)
    expected["test_loss"] = ref.loss(*as_reference(problem.model(arrays), problem.data.test))
    for name, value in expected.items():
        tiny = 1e-12 * np.abs(value).max()
        np.testing.assert_allclose(seen[name], value, rtol=1e-12, atol=tiny, err_msg=name)
    for found, exact in zip(jax.tree.leaves(gradient), ref.gradient(*oracle), strict=True):
        assert norm(found - exact) <= 1e-12 * norm(exact)
    assert all(np.isfinite(value).all() for value in seen.values())


def test_margins_of_thousands_are_safe(precision):
    for factors in ((4e3, 9, 30, 40), (1e6, 1e3, 1e3, 1e3)):
        problem = TABLE.build(jax.random.key(5))
        gradient, seen = observe(problem, scaled(problem, factors))
        assert seen["min_margin"] < -1e3
        for value in (*jax.tree.leaves(gradient), *seen.values()):
            assert value.dtype == precision
            assert np.isfinite(value).all()


def test_the_loss_at_extreme_margins_is_the_margin(precision):
    # One neuron and words of one value, so that F is the same for every sentence.
    task = gf.tasks.Cooccurrence(samples=6, length=4, vocabulary=5, width=1, neurons=1)
    problem = task.build(jax.random.key(0))
    sign = problem.static.signs[0].astype(precision)
    for output in (1e3, -1e3, 1e5, -1e5):
        arrays = scaled(problem, (0, 0, 0, 0))
        values = (jnp.full_like(arrays.w, output / 4), jnp.full_like(arrays.w_v, sign))
        arrays = eqx.tree_at(lambda m: (m.w, m.w_v), arrays, values)
        gradient, seen = observe(problem, arrays)
        assert seen["class_loss"].tolist() == [max(-output, 0), *3 * [max(output, 0)]]
        assert seen["class_gradient"].tolist() == ([0, 1, 1, 1] if output > 0 else [3, 0, 0, 0])
        # The half of the sentences that is wrong pulls F, by dF/dw = 4, towards zero.
        assert gradient.w.item() == 2 * np.sign(output)


def test_both_ways_to_attend_agree():
    problem = WORDWISE.build(jax.random.key(1))
    tokens = problem.data.train.tokens
    model = problem.model(scaled(problem, (1, 1, 5, 5)))
    few, many = model(tokens), model(jnp.tile(tokens, (8, 1)))
    assert "64,64" not in str(jax.make_jaxpr(model)(tokens))
    assert "64,64" in str(jax.make_jaxpr(model)(jnp.tile(tokens, (8, 1))))
    np.testing.assert_allclose(many, jnp.tile(few, 8), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("vocabulary", [300, 2000])
def test_memory_grows_with_the_words_read_and_not_with_pairs_times_samples(vocabulary):
    n, length, width = 600, 4, 8
    task = gf.tasks.Cooccurrence(
        samples=n, length=length, vocabulary=vocabulary, width=width, neurons=8, test_samples=6
    )
    problem = task.build(jax.random.key(0))
    gradient = jax.jit(jax.grad(problem.loss)).lower(problem.params, problem.data).compile()
    read = n * length * max(width, length) + 4 * width * vocabulary
    pairs = vocabulary**2 if vocabulary**2 < 16 * n * length**2 else 0
    assert gradient.memory_analysis().temp_size_in_bytes < 8 * (8 * read + 4 * pairs)


# Runs at the paper's size.


@pytest.fixture(autouse=True, scope="module")
def one_blas_thread():
    """Threads of OpenBLAS wait in busy loops: on shared cores SciPy takes ten times as long."""
    with threadpool_limits(1, "blas"):
        yield


class Run(NamedTuple):
    """The flow as SciPy computes it, at more times than are compared."""

    times: np.ndarray
    weights: list[ref.Weights]
    rest: tuple


@cache
def problem_of(kind):
    seed = {"uniform": 0, "normal": 1}[kind]
    task = gf.tasks.Cooccurrence(initialisation=f"kaiming-{kind}")
    return task.build(jax.random.key(seed))


@cache
def flow_of(kind, rtol):
    return solve(problem_of(kind), rtol)


@cache
def exact(kind):
    problem = problem_of(kind)
    weights, *rest = as_reference(problem.model(problem.params), problem.data.train)
    times = np.union1d(TIMES, np.geomspace(1e-3, 300, 100))
    return Run(times, ref.solve(weights, *rest, times, rtol=1e-12, atol=1e-14), tuple(rest))


def at(run, times):
    return [run.weights[i] for i in np.searchsorted(run.times, times)]


def positive_since(run, function, until=np.inf):
    """By brute force: when a function of the weights becomes positive for good up to `until`."""
    times = run.times[run.times < until]
    values = [function(weights) for weights in run.weights[: len(times)]]
    if values[-1] <= 0:
        return None
    last = np.flatnonzero(np.asarray(values) <= 0)[-1]
    later = np.linspace(0, times[last + 1] - times[last], 50)
    fine = ref.solve(run.weights[last], *run.rest, later, rtol=1e-12, atol=1e-14)
    values = np.array([function(weights) for weights in fine])
    i = np.flatnonzero(values <= 0)[-1]
    fraction = -values[i] / (values[i + 1] - values[i])
    return times[last] + later[i] + fraction * later[1]


def smallest_margin(run):
    a, tokens, labels = run.rest
    return lambda weights: (labels * ref.predict(weights, a, tokens)).min()


def response_order(run):
    """Lemma 4.3 from the velocity: G' = (W'^T a)^T W_V + (W^T a)^T W_V'."""
    a = run.rest[0]

    def order(weights):
        fall = ref.gradient(weights, *run.rest)
        g1, g2, g3 = -((a @ fall.w) @ weights.w_v + (a @ weights.w) @ fall.w_v)[:3]
        return min(-g3 - max(g1, g2), g1 + g2 + g3)

    return order


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_the_run_equals_scipy_on_hand_written_gradients(kind):
    flow, run = flow_of(kind, 1e-9), exact(kind)
    assert flow.result == "end_time"
    weights = at(run, TIMES)
    states = np.array([ref.pack(each) for each in weights])
    assert relative_errors(flow["flat"][1:], states[1:], states[0]).max() <= 1e-7
    for i, each in enumerate(weights):
        for name, value in ref.observables(each, *run.rest).items():
            difference = np.abs(flow[name][i] - value).max()
            assert difference <= 1e-7 * np.abs(value).max(), (name, TIMES[i])


@pytest.mark.parametrize("rtol", [1e-3, 1e-5])
def test_conserved_quantities_are_conserved(rtol):
    flow = flow_of("uniform", rtol)
    assert flow["balance_mlp"].max() <= 10 * rtol
    assert flow["balance_attention"].max() <= 10 * rtol
    assert np.abs(flow["energy_residual"][1:]).max() <= 10 * rtol
    worst = {name: flow[name].max() for name in ("balance_mlp", "balance_attention")}
    assert PAPER.invariants(flow) == worst


def test_a_step_of_descent_is_seen_to_break_the_balances():
    problem = TABLE.build(jax.random.key(0))
    gradient, _ = observe(problem, problem.params)
    drifts = []
    for step in (0.01, 0.02):
        after = jax.tree.map(lambda p, g, h=step: p - h * g, problem.params, gradient)
        old, new = (
            as_reference(problem.model(p), problem.data.train)[0] for p in (problem.params, after)
        )
        pairs = zip((old.w.T, *old[1:]), (new.w.T, *new[1:]), strict=True)
        w, v, k, q = (y @ y.T - x @ x.T for x, y in pairs)
        drifts.append([norm(w - v) / (norm(w) + norm(v)), norm(k - q) / (norm(k) + norm(q))])
        _, seen = observe(problem, after)
        assert [seen["balance_mlp"], seen["balance_attention"]] == pytest.approx(drifts[-1])
    assert np.divide(drifts[1], drifts[0]) == pytest.approx([2, 2], rel=0.1)  # O(step)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_phases_equal_brute_force(kind):
    run = exact(kind)
    t1 = positive_since(run, smallest_margin(run))
    expected = {"T1": t1, "T_half": positive_since(run, response_order(run), until=t1)}
    assert PAPER.phases(flow_of(kind, 1e-9)) == pytest.approx(expected, rel=1e-4)
    # On ten save times of which all but the first come after both phases.
    coarse = solve(problem_of(kind), 1e-5, times=np.linspace(0, 300, 10).tolist())
    assert PAPER.phases(coarse) == pytest.approx(expected, rel=1e-3)
    assert PAPER.phases(flow_of(kind, 1e-5)) == PAPER.phases(coarse)


def test_phases_not_reached():
    flow = solve(problem_of("uniform"), 1e-5, t1=0.1, times=np.linspace(0, 0.1, 10).tolist())
    assert flow["min_margin"][-1] < 0
    assert PAPER.phases(flow) == {"T_half": None, "T1": None}


def test_scores_and_responses_have_the_signs_of_theorems_3_1_and_3_2():
    flow = flow_of("uniform", 1e-9)
    second = flow.time >= PAPER.phases(flow)["T1"]
    for key, query, direction in ((1, 2, 1), (2, 1, 1), (3, 1, -1), (3, 2, -1)):
        score = flow.sel("attention_score", key=key, query=query)[second]
        assert np.all(direction * np.diff(score) > 0)
    for word, sign in ((1, 1), (2, 1), (3, -1)):
        assert np.all(sign * flow.sel("response", word=word)[second] > 0)


def test_figures_show_what_is_recorded():
    flow = flow_of("uniform", 1e-9)
    lines = [line for figure in PAPER.figures for panel in figure.panels for line in panel.lines]
    for line in lines:
        if isinstance(line.variable, str):
            values = flow.sel(line.variable, **line.select)
        else:
            _, values = line.variable(flow)
        assert values.shape == flow.time.shape
        assert np.isfinite(values).all()


@pytest.mark.parametrize("precision", ["float32"], indirect=True)
def test_float32_starts_at_the_same_weights_and_follows_the_same_flow(precision):
    double = problem_of("uniform")
    problem = PAPER.build(jax.random.key(0))
    assert problem.dtype == precision
    arrays, same = (jax.tree.leaves((p.params, p.data)) for p in (problem, double))
    for x, y in zip(arrays, same, strict=True):
        np.testing.assert_array_equal(x, np.asarray(y).astype(x.dtype))
    flow, reference = solve(problem, 1e-3), flow_of("uniform", 1e-9)["flat"]
    assert flow["flat"].dtype == precision
    assert relative_errors(flow["flat"][1:], reference[1:], reference[0]).max() <= 1e-2
