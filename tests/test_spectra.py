"""Sharpness and spectra against dense Hessians, closed forms and matfree."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from command import CONFIGS, QUICKSTART, gradflow
from jax.flatten_util import ravel_pytree
from matfree import decomp
from problems import flat, quadratic

import gradflow as gf
from gradflow import _spectral
from gradflow.analysis import smoothed_density
from gradflow.config import load
from gradflow.flow import FlowSpec
from gradflow.flow.plan import plan
from gradflow.observables import recorded
from gradflow.solvers import stepping

SAVE = gf.Logarithmic(count=7)
DIGITS = CONFIGS / "digits.yaml"


def sample_loss(params, data):
    x, y = data
    return (jnp.tanh(x @ params["w"] + params["b"]) @ params["v"] - y) ** 2


def network(dtype=jnp.float64):
    """A small network on a teacher's data: 48 parameters, and curvature of both signs."""
    keys = jax.random.split(jax.random.key(3), 4)
    params = {
        "w": jax.random.normal(keys[0], (4, 8)),
        "b": jnp.zeros(8),
        "v": jax.random.normal(keys[1], (8,)),
    }
    x = jax.random.normal(keys[2], (30, 4))
    data = x, jnp.sin(x @ jnp.ones(4))
    params, data = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, data))
    return gf.Problem(sample_loss=sample_loss, params=params, data=data)


def states(save=SAVE):
    """All parameters in one vector, at the times of the spectra."""
    return gf.Observable("flat", lambda s: ravel_pytree(s.arrays)[0], save=save)


def dense_hessians(problem, rows):
    """The Hessian of a network, or of anything, at every row of parameters, in float64."""
    wide, data = jax.tree.map(lambda x: x.astype(jnp.float64), (problem.params, problem.data))
    unravel = ravel_pytree(wide)[1]
    hessian = jax.jit(jax.hessian(lambda x: problem.loss(unravel(x), data)))
    return [np.asarray(hessian(jnp.asarray(row, jnp.float64))) for row in rows]


def descending(matrix):
    return np.linalg.eigvalsh(matrix)[::-1]


@pytest.fixture(scope="module")
def run():
    """A run of the network with everything recorded, and its dense Hessians."""
    problem = network()
    flow = gf.solve(
        problem,
        t1=20.0,
        observables=[
            states(),
            gf.spectra.top_eigenvalues(5, save=SAVE),
            gf.spectra.trace(save=SAVE),
            gf.spectra.density(save=SAVE, steps=8, probes=30),
            gf.spectra.gradient_noise(save=SAVE),
            gf.spectra.block_norms(problem, save=SAVE),
        ],
    )
    return problem, flow, dense_hessians(problem, flow["flat"])


def within_residuals(values, residuals, exact):
    """Whether within its residual of each value there is an eigenvalue."""
    return np.abs(values[:, None] - exact[None, :]).min(axis=1) <= residuals


def test_the_largest_eigenvalues_along_a_run(run):
    _, flow, hessians = run
    values, residuals = flow["hessian_eigenvalue"], flow["hessian_eigenvalue_residual"]
    assert values.shape == residuals.shape == (7, 5)
    assert flow.variables["hessian_eigenvalue"].dims[1] == "eigenvalue"
    assert flow.coords["eigenvalue"].tolist() == [1, 2, 3, 4, 5]
    assert min(descending(h)[-1] for h in hessians) < -0.05  # curvature of both signs
    for value, residual, hessian in zip(values, residuals, hessians, strict=True):
        exact = descending(hessian)
        assert within_residuals(value, residual, exact).all()
        np.testing.assert_allclose(value, exact[:5], rtol=1e-6)
    np.testing.assert_array_equal(flow["sharpness"], values[:, 0])
    np.testing.assert_array_equal(flow["sharpness_residual"], residuals[:, 0])


def quadratic_run(eigenvalues, seed, t1):
    problem, *_ = quadratic(eigenvalues, seed)
    spectra = [
        gf.spectra.top_eigenvalues(6),
        gf.spectra.density(steps=9, save=gf.Linear(count=2)),
    ]
    return gf.solve(problem, t1=t1, solver="tsit5", observables=spectra)


INDEFINITE = [3.0, 1.0, 0.2, -0.1, -0.5, -2.0]


def test_a_quadratic_has_the_same_spectrum_at_all_times():
    flow = quadratic_run(INDEFINITE, 0, 1.0)
    exact = np.tile(INDEFINITE, (20, 1))
    np.testing.assert_allclose(flow["hessian_eigenvalue"], exact, rtol=1e-12)
    assert flow["hessian_eigenvalue_residual"].max() < 2e-14


def test_with_fewer_parameters_than_steps_the_nodes_are_the_eigenvalues():
    flow = quadratic_run(INDEFINITE, 0, 1.0)
    nodes, weights = flow["spectral_density_node"], flow["spectral_density_weight"]
    np.testing.assert_allclose(nodes[..., :6], np.tile(INDEFINITE, (2, 4, 1)), rtol=1e-12)
    assert np.isnan(nodes[..., 6:]).all()
    at = np.linspace(-4, 5, 4001)
    curve = smoothed_density(nodes[0], weights[0], at, width=0.05)
    assert np.trapezoid(curve, at) == pytest.approx(1.0, rel=1e-9)
    mean = np.nansum(weights[0] * nodes[0], axis=1).mean()
    assert np.trapezoid(at * curve, at) == pytest.approx(mean, rel=1e-9)
    peaks = at[1:-1][(curve[1:-1] > curve[:-2]) & (curve[1:-1] > curve[2:])]
    np.testing.assert_allclose(peaks, INDEFINITE[::-1], atol=0.01)


def test_new_values_compile_nothing():
    quadratic_run(INDEFINITE, 0, 1.0)
    names = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **kw: (
            names.append(event) if event.endswith("backend_compile_duration") else None
        )
    )
    flow = quadratic_run([4.0, 1.0, 0.5, 0.2, -0.2, -1.0], 5, 2.0)
    np.testing.assert_allclose(flow["sharpness"], 4.0, rtol=1e-12)
    assert names == []


# Spectra of which Lanczos' method makes something wrong where it is written without care: its
# Krylov spaces are exhausted after as many steps as there are distinct eigenvalues.
HARD = {
    "a cluster at the top": np.r_[1.0, 1 - 1e-9, 1 - 1e-6, 1 - 1e-3, np.linspace(-0.5, 0.5, 56)],
    "one eigenvalue": np.full(60, 2.0),
    "nothing": np.zeros(60),
    "two eigenvalues": np.r_[np.full(30, 5.0), np.full(30, -3.0)],
    "low rank": np.r_[5.0, 2.0, 1.0, np.zeros(57)],
    "all negative": -np.geomspace(1e-4, 1.0, 60),
}


@functools.partial(jax.jit, static_argnums=3)
def decompose(matrix, start, noise, steps):
    return _spectral.lanczos(lambda x: matrix @ x, start, noise, steps)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("spectrum", list(HARD.values()), ids=list(HARD))
def test_residuals_hold_for_hard_spectra(spectrum, dtype):
    n, steps = 60, 25
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(n, n)))[0]
    noise = rng.normal(size=n)
    for turn, scale in itertools.product((rotation, np.eye(n)), (1.0, 1e-6, 1e5)):
        matrix = np.asarray(scale * turn @ np.diag(spectrum) @ turn.T, dtype)
        exact = np.linalg.eigvalsh(np.asarray(matrix, np.float64))
        # From anywhere, and from where a warm start begins.
        for start in (noise, turn[:, :3].sum(axis=1) + 1e-3 * noise):
            ritz = decompose(*(jnp.asarray(x, dtype) for x in (matrix, start, noise)), steps)
            vectors = np.asarray(ritz.vectors, np.float64)
            np.testing.assert_allclose(
                vectors @ vectors.T, np.eye(steps), atol=100 * np.finfo(dtype).eps
            )
            values, residuals = np.asarray(ritz.values), np.asarray(ritz.residuals)
            assert within_residuals(values, residuals, exact).all()
            assert (values <= exact[-1] + residuals).all()
            errors = np.linalg.norm(vectors @ matrix - values[:, None] * vectors, axis=1)
            assert (errors <= residuals * (1 + 1e-6)).all()


def test_lanczos_is_matfrees():
    """An independent code, on a matrix with nothing special."""
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(50, 50))
    matrix, start = jnp.asarray(matrix + matrix.T), jnp.asarray(rng.normal(size=50))
    ours = decompose(matrix, start, start, 12)
    theirs = jax.jit(lambda a, v: decomp.tridiag_sym(12)(lambda x: a @ x, v))(matrix, start)
    np.testing.assert_allclose(jnp.abs(ours.basis), jnp.abs(theirs.Q_tall), atol=1e-12)
    values, rotation = np.linalg.eigh(theirs.J_small)
    np.testing.assert_allclose(ours.values[::-1], values, rtol=1e-11)
    residuals = np.linalg.norm(theirs.residual) * np.abs(rotation[-1])
    np.testing.assert_allclose(ours.residuals[::-1], residuals, rtol=1e-8)


def cold_residuals(problem, rows, k, steps):
    """The worst relative residual at every row of parameters, each from the same random start."""
    flat_params, unravel = ravel_pytree(problem.params)
    start = _spectral.direction(jax.random.key(0), flat_params)

    @jax.jit
    def residuals(x):
        product = _spectral.hessian(lambda p: problem.loss(p, problem.data), unravel(x))
        ritz = _spectral.lanczos(product, start, start, steps)
        return jnp.max(ritz.residuals[:k]) / ritz.values[0]

    return np.array([residuals(jnp.asarray(row)) for row in rows])


def test_a_warm_start_lowers_the_residual():
    """At the same number of products, at every time but the first; in the median tenfold."""
    problem, save, k, steps = network(), gf.Logarithmic(count=20), 3, 12
    flow = gf.solve(
        problem,
        t1=20.0,
        observables=[gf.spectra.top_eigenvalues(k, steps=steps, save=save), states(save)],
    )
    warm = flow["hessian_eigenvalue_residual"].max(axis=1) / flow["sharpness"]
    cold = cold_residuals(problem, flow["flat"], k, steps)
    np.testing.assert_allclose(warm[0], cold[0], rtol=1e-6)
    assert np.median(warm[1:] / cold[1:]) < 0.1
    assert (warm[1:] < cold[1:]).all()


def test_a_direction_that_comes_to_the_top_is_found():
    """The Hessian is diagonal: the first top never leads to the one that overtakes it."""

    def loss(params, data):
        falling, rising, rest = params
        return falling**4 - jnp.exp(-(rising**2)) + 0.1 * jnp.sum(data * rest**2)

    widths = jnp.linspace(0.1, 1.0, 40)
    params = jnp.asarray(1.0), jnp.asarray(1.5), jnp.ones(40)
    problem = gf.Problem(loss, params, widths)
    flow = gf.solve(
        problem, t1=20.0, observables=[gf.spectra.sharpness(), states(gf.Logarithmic(count=20))]
    )
    falling, rising = flow["flat"][:, 0], flow["flat"][:, 1]
    curvatures = np.stack([12 * falling**2, (2 - 4 * rising**2) * np.exp(-(rising**2))])
    assert curvatures.argmax(axis=0)[[0, -1]].tolist() == [0, 1]
    top = np.maximum(curvatures.max(axis=0), 0.2)
    assert (np.abs(flow["sharpness"] - top) <= flow["sharpness_residual"]).all()
    np.testing.assert_allclose(flow["sharpness"], top, rtol=1e-5)
    assert "hessian_eigenvalue" not in flow


def test_the_trace_lies_within_its_standard_errors(run):
    _, flow, hessians = run
    exact = np.array([np.trace(h) for h in hessians])
    errors = np.abs(flow["hessian_trace"] - exact) / flow["hessian_trace_standard_error"]
    assert errors.max() < 4
    matrix = jnp.asarray(hessians[0])
    estimate = jax.vmap(lambda key: _spectral.trace(lambda x: matrix @ x, matrix[0], key, 16))
    many = estimate(jax.random.split(jax.random.key(9), 400))
    scores = (np.asarray(many.value) - exact[0]) / np.asarray(many.error)
    assert abs(scores.mean()) < 0.3
    assert np.sqrt(np.mean((many.value - exact[0]) ** 2)) == pytest.approx(
        np.sqrt(np.mean(many.error**2)), rel=0.15
    )
    assert np.mean(many.square) == pytest.approx(np.sum(hessians[0] ** 2), rel=0.05)


def test_a_diagonal_hessian_of_two_eigenvalues():
    """All copies are found; and random signs see a diagonal as it is, without variance."""
    problem = gf.Problem(lambda p, d: jnp.sum(p[:4] ** 2) + jnp.sum(p**2) / 4, jnp.ones(60))
    flow = gf.solve(problem, t1=0.5, spectrum=gf.Spectrum(eigenvalues=6, trace=True))
    exact = np.tile([2.5, 2.5, 2.5, 2.5, 0.5, 0.5], (20, 1))
    np.testing.assert_allclose(flow["hessian_eigenvalue"], exact, rtol=1e-12)
    np.testing.assert_allclose(flow["hessian_trace"], 38.0, rtol=1e-12)
    np.testing.assert_allclose(flow["effective_rank"], 38**2 / 39, rtol=1e-12)
    assert np.abs(flow["hessian_trace_standard_error"]).max() < 1e-12


def test_the_moments_of_the_spectral_density(run):
    """Those of every probe z are z^T H^j z / n up to the 15th; their mean is tr(H^j) / n."""
    problem, flow, hessians = run
    nodes, weights = flow["spectral_density_node"], flow["spectral_density_weight"]
    assert nodes.shape == weights.shape == (7, 30, 8)
    np.testing.assert_allclose(weights.sum(axis=2), 1.0, rtol=1e-12)
    n = problem.size
    keys = jax.random.split(jax.random.key(0), 30)
    probes = np.stack([_spectral.signs(key, jnp.zeros(n)) for key in keys])
    for node, weight, hessian in zip(nodes, weights, hessians, strict=True):
        scale = np.abs(node).max()
        image, seen = probes, []
        for power in range(16):
            moments = np.sum(weight * (node / scale) ** power, axis=1)
            exact = np.sum(probes * image, axis=1) / n
            np.testing.assert_allclose(moments, exact, rtol=1e-9, atol=1e-12)
            seen.append(moments)
            image = image @ hessian / scale
        for power in (1, 2, 3):
            mean, error = np.mean(seen[power]), np.std(seen[power], ddof=1) / np.sqrt(30)
            exact = np.trace(np.linalg.matrix_power(hessian / scale, power)) / n
            assert abs(mean - exact) < 4 * error


def test_gradient_noise_and_block_norms(run):
    problem, flow, _ = run
    unravel = ravel_pytree(problem.params)[1]
    jacobian = jax.jit(jax.jacrev(lambda x: problem.sample_losses(unravel(x), problem.data)))
    for i, row in enumerate(flow["flat"]):
        each = np.asarray(jacobian(jnp.asarray(row)))
        noise = np.sum((each - each.mean(axis=0)) ** 2) / len(each)
        error = flow["gradient_noise_standard_error"][i]
        assert abs(flow["gradient_noise"][i] - noise) < 4 * error < 4 * noise
        ratio = flow["gradient_noise"][i] / np.sum(each.mean(axis=0) ** 2)
        assert flow["gradient_noise_scale"][i] == pytest.approx(ratio, rel=1e-9)
    assert flow.coords["block"].tolist() == ["b", "v", "w"]
    blocks = [unravel(jnp.asarray(row)) for row in flow["flat"]]
    norms = [[np.linalg.norm(block[name]) for name in "bvw"] for block in blocks]
    np.testing.assert_allclose(flow["block_norm"], norms, rtol=1e-12)


def test_float32():
    problem = network(jnp.float32)
    spectrum = gf.Spectrum(eigenvalues=3, trace=True, density=True, gradient_noise=True)
    flow = gf.solve(problem, t1=20.0, rtol=1e-3, spectrum=spectrum, observables={"flat": flat},
                    save_each={"flat": spectrum.save})  # fmt: skip
    for name in ("sharpness", "hessian_trace", "spectral_density_node", "gradient_noise"):
        assert flow[name].dtype == np.float32
        assert np.isfinite(flow[name]).all()
    for i, hessian in enumerate(dense_hessians(problem, flow["flat"])):
        exact = descending(hessian)
        values, residuals = flow["hessian_eigenvalue"][i], flow["hessian_eigenvalue_residual"][i]
        assert within_residuals(values, residuals, exact).all()
        np.testing.assert_allclose(values, exact[:3], rtol=1e-4)


@pytest.fixture
def products():
    """A loss that counts on the host how often its Hessian is multiplied."""
    calls = []

    @jax.custom_jvp
    def seen(x):
        return x

    @seen.defjvp
    def _(primals, tangents):
        jax.debug.callback(lambda _: calls.append(1), tangents[0].ravel()[0])
        return primals[0], tangents[0]

    @jax.custom_vjp
    def counted(x):
        return x

    counted.defvjp(lambda x: (x, None), lambda _, cotangent: (seen(cotangent),))
    return calls, lambda params, data: jnp.sum(jnp.cosh(counted(params)) * data)


def test_evaluations_are_counted(products):
    calls, loss = products
    problem = gf.Problem(loss, jnp.ones(40), jnp.arange(1.0, 41.0))
    observables = [
        gf.spectra.top_eigenvalues(2, save=gf.Linear(count=5)),
        gf.spectra.density(probes=2, steps=7, save=gf.Explicit(times=[0.0])),
    ]
    plain = gf.solve(problem, t1=0.1)
    flow = gf.solve(problem, t1=0.1, observables=observables)
    jax.effects_barrier()
    assert flow.stats["observable_evaluations"] == 2 * (5 * 20 + 1 * 14)
    assert 2 * len(calls) == flow.stats["observable_evaluations"]
    assert flow.stats["gradient_evaluations"] == plain.stats["gradient_evaluations"]
    assert "observable_evaluations" not in plain.stats


def test_evaluations_of_a_run_cut_short(products):
    """A row more for where it ended, and only of what was still to be recorded."""
    calls, loss = products
    problem = gf.Problem(loss, jnp.ones(9), jnp.arange(1.0, 10.0))
    observables = [
        gf.spectra.sharpness(save=gf.Explicit(times=[0.0])),
        gf.spectra.trace(probes=2, save=gf.Explicit(times=[0.0, 1e3])),
    ]
    flow = gf.solve(problem, t1=1e3, observables=observables, max_steps=5)
    jax.effects_barrier()
    assert flow.result == "step_limit"
    assert flow.times("sharpness").tolist() == [0.0]
    assert flow.times("hessian_trace").tolist() == [0.0, flow.final_time]
    assert flow.stats["observable_evaluations"] == 2 * 9 + 2 * 2 * 2 == 2 * len(calls)


@pytest.mark.parametrize(("k", "evaluations"), [(1, 30), (2, 40), (3, 50), (4, 60), (5, 70)])
def test_what_the_defaults_cost(k, evaluations):
    problem = gf.Problem(lambda p, d: jnp.sum(p**2), jnp.ones(1000))
    cost = gf.spectra.top_eigenvalues(k).cost
    assert cost is not None
    assert cost(problem) == evaluations


def begun(problem, **fields):
    spec = FlowSpec(t1=1.0, solver="tsit5", **fields)
    asked = spec.spectrum.build(problem) if spec.spectrum else ()
    planned = plan(problem, spec, "tsit5", recorded(problem, (), asked))
    state = planned.field.init(problem.params, problem.data)
    t1 = jnp.asarray(1.0)
    return stepping.start(planned.steppers["tsit5"], state, planned.save_times, t1, problem.data)


def test_a_run_without_spectra_carries_nothing_for_them():
    """Nothing in the compiled loop but what is recorded; with them, one copy of the parameters."""
    problem = network()
    (plain,) = begun(problem).records
    assert jax.tree.leaves(plain.memory) == []
    own, spectra = begun(problem, spectrum=gf.Spectrum(eigenvalues=2)).records
    assert jax.tree.leaves(own.memory) == []
    assert [leaf.shape for leaf in jax.tree.leaves(spectra.memory)] == [(problem.size,)]
    assert jax.tree.structure(own) == jax.tree.structure(plain)


def test_an_observable_with_a_memory_and_parts_of_ones_own():
    """A running count and a distance; the first memory may be the problem's own parameters."""

    def function(snapshot, memory):
        count, first = memory
        return (count + 1, snapshot.arrays - first), (count + 1, first)

    observable = gf.Observable(
        "both",
        function,
        parts=(gf.Part("count"), gf.Part("moved", (("coordinate", ("x", "y")),))),
        memory=lambda s: (jnp.zeros(()), s.origin),
        save=gf.Linear(count=4),
    )
    start = jnp.asarray([1.0, 2.0])
    problem = gf.Problem(lambda p, d: 0.5 * jnp.sum(p**2), start)
    flow = gf.solve(problem, t1=1.0, rtol=1e-8, observables=[observable])
    assert flow["count"].tolist() == [1, 2, 3, 4]
    times = flow.times("moved")
    np.testing.assert_allclose(flow["moved"], np.expm1(-times)[:, None] * [1.0, 2.0], rtol=1e-6)
    assert flow.sel("moved", coordinate="y")[-1] == flow["moved"][-1, 1]
    assert start.tolist() == [1.0, 2.0]


def test_a_moment_without_a_hessian_does_not_spoil_the_next():
    function = gf.spectra.sharpness().function
    problem = gf.Problem(lambda p, d: d * jnp.sum(p**2), jnp.ones(4), jnp.asarray(1.0))
    start = jnp.asarray([1.0, 2.0, 3.0, 4.0])

    @jax.jit
    def at(data, memory):
        arrays = problem.params
        snapshot = gf.Snapshot(problem.bare(), jnp.zeros(()), arrays, arrays, arrays, data)
        return function(snapshot, memory)

    (value, residual), memory = at(jnp.asarray(jnp.nan), start)
    assert np.isnan([value, residual]).all()
    (value, _), _ = at(jnp.asarray(1.0), memory)
    assert value == pytest.approx(2.0)


def vector_field_problem():
    return gf.Problem(vector_field=lambda t, p, d: -p, params=jnp.ones(3))


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: gf.spectra.top_eigenvalues(0), "k = 0; it must be at least 1"),
        (lambda: gf.spectra.top_eigenvalues(3, steps=2), "steps = 2; it must be at least 3"),
        (lambda: gf.spectra.sharpness(steps=0), "steps = 0"),
        (lambda: gf.spectra.trace(probes=1), "probes = 1; it must be at least 2"),
        (lambda: gf.spectra.density(steps=0), "steps = 0"),
        (lambda: gf.spectra.gradient_noise(probes=1), "probes = 1"),
    ],
)
def test_arguments_out_of_range(make, fault):
    with pytest.raises(ValueError, match=fault):
        make()


@pytest.mark.parametrize(
    ("observable", "problem", "fault"),
    [
        (gf.spectra.top_eigenvalues(7), lambda: quadratic([1, 2, 3])[0], "the problem has 3 param"),
        (gf.spectra.sharpness(), vector_field_problem, "this problem is a vector field"),
        (gf.spectra.trace(), vector_field_problem, "this problem is a vector field"),
        (gf.spectra.density(), vector_field_problem, "this problem is a vector field"),
        (gf.spectra.gradient_noise(), lambda: quadratic([1, 2, 3])[0], "has no sample_loss"),
    ],
)
def test_problems_that_cannot_be_observed_so(observable, problem, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        gf.solve(problem(), t1=1.0, observables=[observable])
    assert "\n" not in str(caught.value)


def test_spectra_twice():
    problem, *_ = quadratic([1, 2, 3])
    twice = [gf.spectra.sharpness(), gf.spectra.top_eigenvalues(2)]
    with pytest.raises(ValueError, match="two observables are called 'sharpness'"):
        gf.solve(problem, t1=1.0, observables=twice)


def test_from_the_command_line_to_a_figure(tmp_path):
    out = tmp_path / "run"
    overrides = [
        "problem={kind: digits, model: logistic, samples: 40}",
        "flow={t1: 1, rtol: 1e-3}",
        "flow.spectrum.eigenvalues=3",
        "flow.spectrum.trace=true",
        "flow.spectrum.gradient_noise=true",
        "flow.spectrum.block_norms=true",
        "flow.spectrum.save={kind: logarithmic, count: 6}",
        "flow.save_each.block_norm={kind: linear, count: 4}",
    ]
    done = gradflow("solve", DIGITS, *overrides, "--output", out, "--quiet")
    assert (done.code, done.err) == (0, "")
    with xarray.open_dataset(out / "flow.nc") as dataset:
        assert dataset["hessian_eigenvalue"].dims == ("time_hessian_eigenvalue", "eigenvalue")
        assert dataset["hessian_eigenvalue"].shape == (6, 3)
        assert dataset["sharpness"].attrs == {"long_name": "sharpness", "units": "1"}
        assert dataset["block_norm"].dims == ("time_block_norm", "block")
        assert dataset["block"].values.tolist() == ["layers.0.weight", "layers.0.bias"]
        sharpness, block_norm = dataset["sharpness"].values, dataset["block_norm"].values
        top, trace = dataset["hessian_eigenvalue"].values, dataset["hessian_trace"].values
        error = dataset["hessian_trace_standard_error"].values
    with np.load(out / "flow-final.npz") as final:
        norms = [np.linalg.norm(final[f"layers.0.{name}"]) for name in ("weight", "bias")]
    np.testing.assert_allclose(block_norm[-1], norms, rtol=1e-9)
    # At the start all of softmax regression's curvature is this, by hand.
    config = load(DIGITS, overrides)
    problem = config.problem.build(jax.random.key(config.seed))
    exact = softmax_curvature(problem.model(problem.params), problem.data.train.pixels)
    np.testing.assert_allclose(top[0], descending(exact)[:3], rtol=1e-6)
    assert abs(trace[0] - np.trace(exact)) < 4 * error[0]
    np.testing.assert_array_equal(sharpness, top[:, 0])
    summary = json.loads((out / "summary.json").read_text())["flow"]
    assert summary["observable_evaluations"] == 6 * (50 + 32 + 17)
    for kind in ("png", "pdf"):
        assert (out / f"figures/sharpness.{kind}").exists()


def softmax_curvature(model, pixels):
    """The mean over samples of (diag(p) - p p^T) kron x x^T, for weights and biases in one."""
    inputs = np.hstack([np.asarray(pixels), np.ones((len(pixels), 1))])
    logits = np.asarray(jax.vmap(model)(pixels))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    middle = np.einsum("ni,ij->nij", chances, np.eye(10)) - np.einsum(
        "ni,nj->nij", chances, chances
    )
    return np.einsum("nij,na,nb->iajb", middle, inputs, inputs).reshape(650, 650) / len(inputs)


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("flow.spectrum.eigenvalues=11", "got 11; allowed: a whole number of at least 0 and of at"),
        ("flow.spectrum.eigenvlaues=2", "did you mean 'eigenvalues'?"),
        ("flow.spectrum=true", "a mapping with the keys eigenvalues, steps, trace"),
        ("flow.spectrum={eigenvalues: 5, steps: 4}", "steps = 4 find no 5 eigenvalues; allowed"),
        ("flow.spectrum.save={kind: explicit, times: [0, 1e9]}", "the save time 1e+09 lies after"),
        ("flow.save_each.hessian_trace={kind: linear}", "no observable 'hessian_trace'"),
    ],
)
def test_faults_in_a_configuration(override, fault):
    done = gradflow("validate", QUICKSTART, override)
    assert done.code == 2
    assert fault in done.err
    assert done.err.count("\n") == 1
