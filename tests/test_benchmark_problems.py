"""The suite of test problems: what is drawn, closed forms, losses and gradients."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference as oracle
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.signal import correlate
from scipy.special import logsumexp

from benchmarks.problems import PROBLEMS, flat, observed_flat, unflat
from benchmarks.problems.reference import by_gradflow, error

CLOSED_FORMS = [name for name, case in PROBLEMS.items() if case.closed_form is not None]
SIZES = {
    "quadratic-mild": 100,
    "quadratic": 100,
    "quadratic-clustered": 100,
    "quadratic-valley": 100,
    "linear2": 16 * 12 + 10 * 16,
    "linear4": 16 * 12 + 2 * 16 * 16 + 10 * 16,
    "hi": 661,
    "mlp": 3151,
    "ode": 33,
    "ode-long": 33,
    "transformer": 57_344,
    "transm": 57_344,
    "digits": 1_003_050,
}


def start(problem):
    return np.asarray(flat(problem.params))


def numpy_model(problem):
    """The user's structure and the data, every array in NumPy."""
    return jax.tree.map(
        lambda x: np.asarray(x) if eqx.is_array(x) else x,
        (problem.model(problem.params), problem.data),
    )


@pytest.mark.parametrize("name", PROBLEMS)
def test_sizes_times_and_dtypes(name):
    case = PROBLEMS[name]
    problem = case.build(0)
    rounded = case.build(0, "float32")
    assert problem.size == SIZES[name]
    assert len(case.seeds) >= 3
    assert problem.dtype == np.float64
    assert rounded.dtype == np.float32
    for one, other in zip(
        jax.tree.leaves((problem.params, problem.data)),
        jax.tree.leaves((rounded.params, rounded.data)),
        strict=True,
    ):
        assert other.dtype != np.float64
        assert np.array_equal(np.asarray(one).astype(other.dtype), other)
    times = case.times()
    assert times[0] == 0
    assert times[-1] == case.t1
    assert (np.diff(times) > 0).all()
    assert set(case.tags) & {"stiff", "mild", "smooth"}


def test_it_builds_where_float64_is_disabled():
    with jax.enable_x64(False):
        for name in ("quadratic", "linear2", "hi", "transm", "digits"):
            problem = PROBLEMS[name].build(1)
            assert {leaf.dtype for leaf in jax.tree.leaves(problem.params)} == {jnp.float32.dtype}
        with pytest.raises(ValueError, match="hi was asked for in float64, which JAX has disabled"):
            PROBLEMS["hi"].build(0, "float64")


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_seed_is_one_draw(name):
    first, again, other = (PROBLEMS[name].build(seed) for seed in (0, 0, 1))
    assert eqx.tree_equal((first.params, first.data), (again.params, again.data))
    # Away from the first draw by about as much as that is away from 0.
    apart = np.linalg.norm(start(first) - start(other)) / np.linalg.norm(start(first))
    assert 0.5 <= apart <= 2
    assert not eqx.tree_equal(first.data, other.data)


def test_a_case_is_frozen():
    with pytest.raises(AttributeError):
        PROBLEMS["hi"].t1 = 1.0


def test_a_tag_must_be_known():
    with pytest.raises(ValueError, match=r"hi: no tags \['hard'\]; there are"):
        replace(PROBLEMS["hi"], tags=frozenset({"hard"}))


@pytest.mark.parametrize("name", PROBLEMS)
def test_vectors_and_structures(name):
    problem = PROBLEMS[name].build(0, "float32")
    vector = flat(problem.params)
    assert vector.shape == (problem.size,)
    assert eqx.tree_equal(unflat(problem, vector), problem.params)
    assert np.array_equal(observed_flat(0.0, problem.model(problem.params), None), vector)


# Closed forms


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms_against_a_tight_solve(name):
    case = PROBLEMS[name]
    assert case.closed_form is not None
    problem, times = case.build(1), case.times(20)
    exact = case.closed_form(1, times)
    assert np.array_equal(exact[0], start(problem)) or np.allclose(
        exact[0], start(problem), rtol=0, atol=1e-14
    )
    found = by_gradflow(problem, times, solver="tsit5", rtol=1e-8)
    assert error(found[1:], exact[1:], start(problem)).worst <= 1e-7
    assert error(found[1:], exact[1:], start(problem)).final <= 1e-8


def test_quadratics_against_the_matrix_exponential():
    case = PROBLEMS["quadratic-mild"]
    assert case.closed_form is not None
    problem = case.build(2)
    rotation, eigenvalues, minimum = map(np.asarray, problem.data)
    hessian = rotation @ np.diag(eigenvalues) @ rotation.T
    for t in (0.01, 0.3, 2.0):
        exact = minimum + expm(-t * hessian) @ (start(problem) - minimum)
        assert np.abs(case.closed_form(2, [t])[0] - exact).max() <= 1e-13


def test_the_spectra_are_as_described():
    spectrum = {
        name: np.sort(np.asarray(PROBLEMS[name].build(0).data.eigenvalues))
        for name in PROBLEMS
        if name.startswith("quadratic")
    }
    for name, condition in (("quadratic-mild", 1e2), ("quadratic", 1e5), ("quadratic-valley", 1e5)):
        assert spectrum[name][-1] / spectrum[name][0] == pytest.approx(condition, rel=1e-12)
    # Log-uniform: a fifth of them in each decade.
    decades = np.histogram(np.log10(spectrum["quadratic"]), np.arange(-2, 4))[0]
    assert (np.abs(decades - 20) <= 10).all()
    assert (spectrum["quadratic-clustered"] > 0.95 * 1000).sum() == 20
    assert (spectrum["quadratic-clustered"] < 100.1).sum() == 80
    assert (spectrum["quadratic-valley"] < 10).sum() == 1


@pytest.mark.parametrize("name", ["linear2", "linear4"])
def test_deep_linear_networks_against_scipy(name):
    """Matrix by matrix in NumPy: W_l' = (W_D ... W_l+1)^T (S - W_D ... W_1) (W_l-1 ... W_1)^T."""
    case = PROBLEMS[name]
    assert case.closed_form is not None
    weights, data = numpy_model(case.build(0))
    assert np.allclose(data.inputs.T @ data.inputs / len(data.inputs), np.eye(12), atol=1e-13)
    task = data.targets.T @ data.inputs / len(data.inputs)
    shapes = [w.shape for w in weights]
    ends = np.cumsum([w.size for w in weights])[:-1]

    def product(matrices, size):
        return np.linalg.multi_dot([*matrices[::-1], np.eye(size)]) if matrices else np.eye(size)

    def slope(_, vector):
        parts = np.split(vector, ends)
        w = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
        rest = task - product(w, 12)
        return np.concatenate(
            [
                (product(w[i + 1 :], len(w[i])).T @ rest @ product(w[:i], 12).T).ravel()
                for i in range(len(w))
            ]
        )

    t1 = 1.0  # after some of the modes have been learnt, and before others
    initial = np.concatenate([w.ravel() for w in weights])
    end = solve_ivp(slope, (0, t1), initial, "DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    assert error([end], case.closed_form(0, [t1]), initial).final <= 1e-9


# Losses and gradients


def multilayer(model, inputs, activation):
    values = inputs
    for i, layer in enumerate(model.layers):
        values = (activation(values) if i > 0 else values) @ layer.weight.T + layer.bias
    return values[:, 0]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def network_loss(activation, factor):
    def loss(model, data):
        return factor * np.mean((multilayer(model, data.inputs, activation) - data.targets) ** 2)

    return loss


def transformer_loss(of):
    def loss(model, data):
        weights = oracle.Weights(model.w, model.w_v, model.w_k, model.w_q)
        train = data.train
        return np.mean(of(oracle.predict(weights, model.signs, train.tokens), train.labels))

    return loss


def digits_loss(model, data):
    """With SciPy's correlation in place of gathered neighbours."""

    def convolve(layer, x, stride):
        kernel = layer.weight.reshape(-1, 3, 3, x.shape[-1])
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        planes = [correlate(padded, k[None], "valid", "direct")[..., 0] for k in kernel]
        return gelu(np.stack(planes, -1)[:, ::stride, ::stride] + layer.bias)

    x = convolve(model.second, convolve(model.first, data.pixels[..., None], 2), 1)
    x = gelu(x.reshape(len(x), -1) @ model.dense.weight.T + model.dense.bias)
    logits = x @ model.readout.weight.T + model.readout.bias
    return np.mean(logsumexp(logits, axis=1) - logits[np.arange(len(x)), data.digits])


LOSSES = {
    "hi": network_loss(gelu, 0.5),
    "mlp": network_loss(np.tanh, 0.5),
    "ode": network_loss(lambda x: np.log1p(np.exp(x)), 1.0),
    "transformer": transformer_loss(lambda f, y: oracle.logistic(y * f)),
    "transm": transformer_loss(lambda f, y: (f - y) ** 2 / 2),
    "digits": digits_loss,
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_against_numpy(name):
    problem = PROBLEMS[name].build(0)
    found = float(jax.jit(lambda p, d: problem.loss(p, d))(problem.params, problem.data))
    assert found == pytest.approx(LOSSES[name](*numpy_model(problem)), rel=1e-12)


@pytest.mark.parametrize(
    "name", ["quadratic-mild", "linear4", "hi", "ode", "transformer", "transm", "digits"]
)
def test_gradients_against_finite_differences(name):
    problem = PROBLEMS[name].build(0)
    loss = jax.jit(lambda vector, data: problem.loss(unflat(problem, vector), data))
    at = start(problem)
    gradient = np.asarray(jax.jit(jax.grad(loss))(at, problem.data))
    # Half along the gradient, so that the derivative does not drown in rounding.
    direction = np.random.default_rng(0).normal(size=at.size)
    direction = direction / np.linalg.norm(direction) + gradient / np.linalg.norm(gradient)
    h = 1e-4
    ahead, behind, far, back = (
        float(loss(at + k * h * direction, problem.data)) for k in (1, -1, 2, -2)
    )
    difference = (8 * (ahead - behind) - (far - back)) / (12 * h)
    assert gradient @ direction == pytest.approx(difference, rel=1e-7)


def test_teachers_are_scaled():
    for name, deviation in (("hi", 20.0), ("mlp", 1.0)):
        targets = np.asarray(PROBLEMS[name].build(3).data.targets)
        assert targets.mean() == pytest.approx(0, abs=1e-13)
        assert targets.std() == pytest.approx(deviation)
