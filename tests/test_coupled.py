"""The coupled dynamical system against the transformer that it stands for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2, ks_2samp, kstest

import gradflow as gf
from gradflow.tasks import coupled
from gradflow.tasks.coupled.statistics import wishart

SMALL = {"samples": 12, "length": 4, "vocabulary": 16, "test_samples": 12}


def state_of(model, words):
    return coupled.of_weights(model.w, model.w_v, model.w_k, model.w_q, model.signs, words)


def followed(problem, size):
    """The words of the transformer's sentences and the lowest of the others, `size` in all."""
    tokens = np.concatenate([np.ravel(s.tokens) for s in problem.data])
    occurring = np.union1d([0, 1, 2], tokens)
    others = [word for word in range(size) if word not in occurring]
    return np.sort(np.concatenate([occurring, others[: size - len(occurring)]]).astype(int))


@pytest.mark.parametrize(
    ("initialisation", "vocabulary", "size"),
    [
        ("kaiming-uniform", 16, 16),
        ("kaiming-normal", 16, 16),
        ("theory", 16, 16),
        # More than there is room for in 24 sentences: three special words, and of every 12
        # sentences those of 12 * 3 places that have no target.
        ("theory", 100, 3 + 2 * (12 * 3 - 2 * 6 - 2 - 2)),
    ],
)
def test_it_moves_as_the_transformer_does(initialisation, vocabulary, size):
    """Its velocity is the derivative of its state along minus the transformer's gradient."""
    sizes = {**SMALL, "width": 10, "neurons": 14, "initialisation": initialisation}
    sizes["vocabulary"] = vocabulary
    for seed in range(3):
        key = jax.random.key(seed)
        full = gf.tasks.Cooccurrence(**sizes).build(key)
        closed = gf.tasks.Coupled(**sizes).build(key)
        words = followed(full, size)
        assert len(words) == size
        slope = jax.tree.map(jnp.negative, jax.grad(full.loss)(full.params, full.data))
        state, moved = jax.jvp(
            lambda arrays, full=full, words=words: state_of(full.model(arrays), words),
            (full.params,),
            (slope,),
        )
        velocity = coupled.velocity(closed.params, closed.data.sizes, closed.data.train)
        for name in coupled.State._fields:
            scale = np.abs(getattr(moved, name)).max()
            np.testing.assert_allclose(
                getattr(closed.params, name), getattr(state, name), rtol=1e-13, atol=1e-15
            )
            np.testing.assert_allclose(
                getattr(velocity, name), getattr(moved, name), rtol=1e-11, atol=1e-12 * scale
            )
        speed = coupled.squared_speed(closed.params, closed.data.sizes, closed.data.train)
        squares = sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(slope))
        np.testing.assert_allclose(speed, squares, rtol=1e-12)


def test_it_agrees_with_the_transformer_at_the_papers_size():
    """Over [0, 300] to 1e-8 at rtol 1e-10, in five seeds, all of the state."""
    times = gf.Explicit(times=(0.0, 1e-2, 1e-1, 1.0, 1e1, 1e2, 300.0))
    words = np.arange(64)

    def watched(t, params, data):
        return jnp.concatenate([x.ravel() for x in state_of(params, words)])

    def itself(t, params, data):
        return jnp.concatenate([x.ravel() for x in params])

    for seed in range(5):
        key = jax.random.key(seed)
        full, closed = gf.tasks.Cooccurrence().build(key), gf.tasks.Coupled().build(key)
        kept = {"t1": 300.0, "rtol": 1e-10, "save": times}
        run = gf.solve(full, observables={"state": watched}, **kept)
        other = gf.solve(closed, observables={"state": itself}, **kept)
        bounds = np.cumsum([np.size(x) for x in closed.params])[:-1]
        found, expected = (np.split(r["state"], bounds, axis=1) for r in (run, other))
        for name, a, b in zip(coupled.State._fields, found, expected, strict=True):
            error = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
            assert error.max() < 1e-8, name
        for name in ("loss", "class_loss", "min_margin", "test_loss", "attention_score"):
            np.testing.assert_allclose(run[name], other[name], rtol=1e-7)
        assert full_phases(run) == pytest.approx(full_phases(other), rel=1e-8)


def full_phases(run):
    return {k: v for k, v in gf.tasks.Cooccurrence().phases(run).items() if v is not None}


def test_energy_and_what_the_flow_conserves():
    """dL/dt = -|grad L|^2; tr K - tr Q and tr K^2 - 2 |S|^2 + tr Q^2 do not change."""
    closed = gf.tasks.Coupled(**SMALL, width=10, neurons=14).build(jax.random.key(1))
    data = closed.data
    loss = next(o for o in closed.observables if o.name == "loss").function

    def moving(function):
        slope = coupled.velocity(closed.params, data.sizes, data.train)
        return jax.jvp(function, (closed.params,), (slope,))[1]

    def lost(state):
        moment = type("Moment", (), {"params": state, "data": data})
        return loss(moment)

    speed = coupled.squared_speed(closed.params, data.sizes, data.train)
    np.testing.assert_allclose(moving(lost), -speed, rtol=1e-12)
    for kept in (
        lambda s: jnp.trace(s.keys) - jnp.trace(s.queries),
        lambda s: jnp.sum(s.keys**2) - 2 * jnp.sum(s.scores**2) + jnp.sum(s.queries**2),
    ):
        assert abs(moving(kept)) < 1e-14


def test_widths_and_vocabularies_beyond_memory_cost_nothing():
    """The state has the size of the words that may occur, and widths are values, not shapes."""
    sizes = {"initialisation": "theory", "start": "statistics", "test_samples": 12}
    small = gf.tasks.Coupled(**SMALL | sizes, width=8, neurons=8).build(jax.random.key(0))
    for size in (10**3, 10**6, 2**31 - 1):
        problem = gf.tasks.Coupled(**SMALL | sizes, width=size, neurons=size).build(
            jax.random.key(0)
        )
        assert [x.shape for x in problem.params] == [x.shape for x in small.params]
    large = {"vocabulary": 10**6, "unique_words": True, "width": 10**6}
    huge = gf.tasks.Coupled(**SMALL | sizes | large).build(jax.random.key(0))
    words = len(huge.params.response)
    assert words == 3 + 2 * (12 * 3 - 2 * 6 - 2 - 2)
    flow = gf.solve(huge, t1=1e-3, rtol=1e-3)
    assert flow.result == "end_time"
    assert flow["loss"][-1] < 0.01 * flow["loss"][0]


# The law of the start.


@pytest.mark.parametrize(("degrees", "dimension"), [(1, 4), (3, 4), (4, 4), (50, 3)])
def test_wishart_matrices(degrees, dimension):
    rng = np.random.default_rng(0)
    draws = np.stack([wishart(rng, degrees, dimension) for _ in range(4000)])
    assert np.linalg.matrix_rank(draws[0]) == min(degrees, dimension)
    mean, spread = draws.mean(axis=0), draws.std(axis=0) / np.sqrt(len(draws))
    assert (abs(mean - degrees * np.eye(dimension)) < 4.5 * spread + 1e-12).all()
    for i in range(dimension):  # every diagonal entry is a chi-square
        assert kstest(draws[:, i, i], chi2(degrees).cdf).pvalue > 1e-4
    # Off it the variance is the number of degrees.
    assert draws[:, 0, 1].var() == pytest.approx(degrees, rel=0.15)


def test_statistics_start_where_weights_do():
    """Two-sample tests over 200 seeds each of T1, of the loss and of scores and responses."""
    sizes = {**SMALL, "width": 128, "neurons": 256, "initialisation": "kaiming-normal"}
    samples = {}
    for start in ("weights", "statistics"):
        task = gf.tasks.Coupled(**sizes, start=start)
        rows = []
        # The same sentences for all: what differs is the start alone.
        first = task.build(jax.random.key(0))
        words = np.arange(len(first.params.response))
        for seed in range(200):
            *_, rng = task.sources(jax.random.key(1000 * (start == "weights") + seed))
            state = task.state(rng, words)
            problem = eqx.tree_at(lambda p: p.params, first, state)
            flow = gf.solve(problem, t1=30.0, rtol=1e-3, save=gf.Linear(count=2))
            scores, response = flow["attention_score"], flow["response"]
            t1 = task.phases(flow)["T1"]
            rows.append(
                [
                    np.inf if t1 is None else t1,
                    flow["loss"][-1],
                    *scores[-1][[0, 1, 2, 2], [1, 0, 0, 1]],
                    *(scores[-1] - scores[0])[[0, 2], [1, 0]],
                    *response[-1],
                    *response[0],
                ]
            )
        samples[start] = np.array(rows)
    for a, b in zip(samples["weights"].T, samples["statistics"].T, strict=True):
        assert ks_2samp(a, b).pvalue > 1e-3


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"start": "statistics"}, "those of kaiming-uniform are not; allowed: initialisation"),
        ({"width": 0}, "greater than or equal to 1"),
        ({"length": 2}, "greater than or equal to 3"),
        ({"samples": 10}, "multiple of 6"),
        ({"vocabulary": 3}, "greater than or equal to 4"),
        ({"unique_words": True, "vocabulary": 100}, "set vocabulary to at least 163"),
    ],
)
def test_mistakes(fields, told):
    with pytest.raises(ValueError, match=told):
        gf.tasks.Coupled(**fields)
