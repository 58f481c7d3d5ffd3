"""Kvaerno's methods by Newton and conjugate gradients: against closed forms and diffrax's own."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from problems import flat, quadratic, quadratic_loss, relative_errors

import gradflow as gf
from gradflow.fields import GradientFlow
from gradflow.solvers import CountedField, Counter, NewtonKrylov
from gradflow.solvers.conjugate_gradients import conjugate_gradients
from gradflow.solvers.continuous_extension import continuous_extension

METHODS = (diffrax.Kvaerno3, diffrax.Kvaerno4, diffrax.Kvaerno5)
NAMES = ("kvaerno3-cg", "kvaerno5-cg")


def spectrum(condition, n=60):
    return np.geomspace(1.0, condition, n)


def worst(problem, exact, t1, rtol, solver):
    """The worst error over the run as a multiple of rtol, and the run."""
    save = gf.Explicit(times=[0.0, *np.geomspace(1e-7 * t1, t1, 60).tolist()])
    flow = gf.solve(problem, t1=t1, rtol=rtol, solver=solver, observables={"flat": flat}, save=save)
    assert flow.result == "end_time"
    found = flow["flat"].astype(np.float64)
    return relative_errors(found[1:], exact(flow.time[1:]), found[0]).max() / rtol, flow


def log_cosh_field(t, y, rotation):
    """Minus the gradient of (1 + sin t) sum log cosh (rotation @ y), y in two leaves."""
    slope = -(1 + jnp.sin(t)) * rotation.T @ jnp.tanh(rotation @ jnp.concatenate(y))
    return slope[:3], slope[3:]


@pytest.mark.parametrize(
    ("method", "order", "counts"),
    [
        (diffrax.Kvaerno3, 3, (32, 48, 64, 96)),
        (diffrax.Kvaerno4, 4, (32, 48, 64, 96)),
        (diffrax.Kvaerno5, 5, (16, 24, 32, 48)),
    ],
)
def test_order(method, order, counts):
    """The global error at constant steps: nonlinear, not autonomous, full Jacobian."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    z0 = rng.normal(size=5)
    # dz/dt = -(1 + sin t) tanh z, so sinh z decays by the integral of 1 + sin t.
    exact = rotation.T @ np.arcsinh(np.sinh(z0) * np.exp(-(3.0 - np.cos(2.0))))
    y0 = rotation.T @ z0
    solver = NewtonKrylov(method(), 1e-13)

    @eqx.filter_jit
    def final(n):
        term = diffrax.ODETerm(log_cosh_field)
        start = (jnp.asarray(y0[:3]), jnp.asarray(y0[3:]))
        end = diffrax.diffeqsolve(
            term, solver, 0.0, 2.0, 2.0 / n, start, args=jnp.asarray(rotation)
        ).ys
        return jnp.concatenate([leaf[0] for leaf in end])

    errors = [np.linalg.norm(final(jnp.asarray(float(n))) - exact) for n in counts]
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.15)


def small_network():
    """A tanh network and its data, stiff enough for a step of 0.5."""
    rng = np.random.default_rng(1)
    params = [jnp.asarray(rng.normal(size=shape)) for shape in ((3, 8), (8, 1))]
    data = jnp.asarray(rng.normal(size=(20, 3))), jnp.asarray(rng.normal(size=(20, 1)))

    def loss(params, data):
        first, second = params
        return 10 * jnp.mean((jnp.tanh(data[0] @ first) @ second - data[1]) ** 2)

    return gf.Problem(loss, params, data)


@pytest.mark.parametrize(
    ("method", "make"),
    [
        (diffrax.Kvaerno3, small_network),
        (diffrax.Kvaerno5, lambda: quadratic(spectrum(1e4, 8))[0]),
    ],
)
def test_a_step_is_diffrax_own(method, make):
    """With its dense Jacobian and Newton's method."""
    problem = make()
    gradient = jax.grad(problem.loss)
    term = diffrax.ODETerm(lambda t, y, data: jax.tree.map(jnp.negative, gradient(y, data)))
    dense = method(root_finder=optx.Newton(rtol=1e-8, atol=1e-8), root_find_max_steps=50)
    t0, t1 = jnp.asarray(0.0), jnp.asarray(0.01)

    @eqx.filter_jit
    def step(solver, y0, data):
        state = solver.init(term, t0, t1, y0, data)
        return solver.step(term, t0, t1, y0, data, state, jnp.asarray(False))

    found, expected = (
        step(solver, problem.params, problem.data)
        for solver in (NewtonKrylov(method(), 1e-10), dense)
    )
    assert found[4] == expected[4] == diffrax.RESULTS.successful
    for a, b in zip(found[:2], expected[:2], strict=True):
        a, b = flat(0.0, a, None), flat(0.0, b, None)
        assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b)


@pytest.mark.parametrize("solver", NAMES)
@pytest.mark.parametrize("condition", [1e4, 1e6])
def test_stiff_quadratics(condition, solver):
    """From the first transient to the minimum, at every time, and the energy with it."""
    problem, _, exact = quadratic(spectrum(condition))
    t1 = 20.0
    for rtol in (1e-3, 1e-5):
        error, flow = worst(problem, exact, t1, rtol, solver)
        assert error <= 10
        assert np.nanmax(np.abs(flow["energy_residual"])) <= 10 * rtol
        assert flow.stats["rejected"] == 0
        # An explicit method takes about one or two for each unit of sharpness times time.
        assert flow.stats["gradient_evaluations"] <= 0.1 * condition * t1


def test_tight_tolerance():
    """Dense output keeps the promise too, where the steps are long."""
    problem, _, exact = quadratic(spectrum(1e3))
    error, flow = worst(problem, exact, 10.0, 1e-9, "kvaerno5-cg")
    assert error <= 3
    assert flow.stats["accepted"] <= 400


def test_a_saddle_beside_a_stiff_valley():
    """500 x^2 - y^2 / 2 + y^4 / 4: y follows dy/dt = y - y^3 out of the saddle."""
    start = 0.1

    def exact(t):
        y = 1 / np.sqrt(1 + (start**-2 - 1) * np.exp(-2 * t))
        return np.stack([np.exp(-1000 * t), y], axis=1)

    problem = gf.Problem(
        lambda p, d: 500 * p[0] ** 2 - p[1] ** 2 / 2 + p[1] ** 4 / 4, jnp.asarray([1.0, start])
    )
    for rtol in (1e-3, 1e-5):
        error, flow = worst(problem, exact, 30.0, rtol, "kvaerno3-cg")
        assert error <= 10
        assert flow.stats["gradient_evaluations"] <= 4000  # 30,000 units of sharpness times time


def test_a_deep_linear_network_leaves_its_saddle():
    """Saxe, McClelland & Ganguli (2014): each mode u of the product follows a logistic."""
    strengths, small = np.array([200.0, 3.0, 1.0]), 0.05
    rng = np.random.default_rng(2)
    left, right = (np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(2))
    target = left @ np.diag(strengths) @ right.T

    def exact(t):
        u = strengths / (1 + (strengths / small - 1) * np.exp(-2 * np.outer(t, strengths)))
        first = np.einsum("ti,ji->tij", np.sqrt(u), right)
        second = np.einsum("ij,tj->tij", left, np.sqrt(u))
        return np.concatenate([first.reshape(len(u), -1), second.reshape(len(u), -1)], axis=1)

    start = jnp.asarray(exact([0.0])[0])
    problem = gf.Problem(
        lambda p, d: 0.5 * jnp.sum((p["second"] @ p["first"] - d) ** 2),
        {"first": start[:9].reshape(3, 3), "second": start[9:].reshape(3, 3)},
        jnp.asarray(target),
    )
    assert np.linalg.eigvalsh(_hessian(problem)).min() < -100
    error, flow = worst(problem, exact, 10.0, 1e-4, "kvaerno5-cg")
    assert error <= 10
    assert flow.stats["gradient_evaluations"] <= 4000  # as many units of sharpness times time


def _hessian(problem):
    vector, unravel = jax.flatten_util.ravel_pytree(problem.params)
    return jax.hessian(lambda v: problem.loss(unravel(v), problem.data))(vector)


@pytest.mark.parametrize("method", METHODS)
def test_growth_is_the_flows_or_refused(method):
    """A direction that grows is multiplied by R(z), near exp(z), or the step is refused."""
    tableau = method.tableau
    a = np.diag(tableau.a_diagonal)
    for i, row in enumerate(tableau.a_lower, 1):
        a[i, :i] = row
    growth = np.array([1.0, -300.0])
    term = diffrax.ODETerm(lambda t, y, args: jnp.asarray(growth) * y)
    y0 = jnp.asarray([1.0, 1.0])
    solver = NewtonKrylov(method(), 1e-10)
    for share, solved in ((0.3, True), (0.45, True), (0.55, False), (0.95, False), (5.0, False)):
        t0, t1 = jnp.asarray(0.0), jnp.asarray(share / tableau.a_diagonal[-1])
        state = solver.init(term, t0, t1, y0, None)
        y1, error, _, state, result = solver.step(term, t0, t1, y0, None, state, False)
        assert (result == diffrax.RESULTS.successful) == solved
        assert np.isfinite(error).all() == solved
        assert int(solver.evaluations(state)) >= 3
        if solved:
            z = float(t1) * growth
            systems = np.eye(len(a)) - z[:, None, None] * a
            expected = 1 + z * np.linalg.solve(systems, np.ones((2, len(a), 1)))[..., 0].dot(
                tableau.b_sol
            )
            np.testing.assert_allclose(y1, expected, atol=1e-8)
            assert abs(expected[0] / np.exp(z[0]) - 1) < 0.2


def test_float32():
    evaluations = []
    for dtype in (jnp.float64, jnp.float32):
        problem, _, exact = quadratic(spectrum(1e4))
        params, data = jax.tree.map(
            lambda x, dtype=dtype: x.astype(dtype), (problem.params, problem.data)
        )
        problem = gf.Problem(quadratic_loss, params, data)
        error, flow = worst(problem, exact, 10.0, 1e-3, "kvaerno3-cg")
        assert error <= 10
        assert flow["flat"].dtype == dtype
        evaluations.append(flow.stats["gradient_evaluations"])
    assert evaluations[1] <= 1.5 * evaluations[0]


@pytest.mark.parametrize("solver", NAMES)
def test_reported_evaluations_are_those_made(solver):
    """Counted on the host, one for a slope and two for a product, refused steps included."""
    counter = Counter()

    def slope(t, x, data):
        # What rests at the bottom of a stiff well, steps getting long, is pushed out of it.
        push = jnp.where(t > 3, 100.0, 0.0)
        return jnp.asarray([-300.0, -1.0, 0.5]) * x + push

    params = jnp.asarray([3.0, 2.0, 1e-3])
    problem = gf.Problem(params=params, vector_field=CountedField(slope, counter))
    method = {"kvaerno3-cg": diffrax.Kvaerno3, "kvaerno5-cg": diffrax.Kvaerno5}[solver]
    flow = gf.solve(problem, t1=4.0, rtol=1e-3, solver=NewtonKrylov(method(), 1e-3))
    assert flow.stats["solver"] == solver
    assert flow.stats["rejected"] > 0
    assert flow.stats["gradient_evaluations"] == counter.read()


def test_two_hundred_thousand_parameters():
    """Far too many for a matrix; and the memory of a step is some copies of the state."""
    n = 200_000
    stiffness = jnp.geomspace(1.0, 100.0, n)

    def loss(x, stiffness):  # sum of stiffness log cosh x, so sinh x decays exponentially
        return jnp.sum(stiffness * (jnp.logaddexp(x, -x)))

    problem = gf.Problem(loss, jnp.full(n, 1.5), stiffness)
    flow = gf.solve(problem, t1=1.0, rtol=1e-2, solver="kvaerno3-cg")
    exact = np.arcsinh(np.sinh(1.5) * np.exp(-np.asarray(stiffness)))
    error = np.linalg.norm(flow.final_params - exact) / np.linalg.norm(exact - 1.5)
    assert error <= 10 * 1e-2

    field = GradientFlow(problem.bare())
    term = diffrax.ODETerm(field)
    for method, copies in ((diffrax.Kvaerno3, 16), (diffrax.Kvaerno5, 22)):
        solver = NewtonKrylov(method(), 1e-3, field.measured)

        def step(y, state, data, solver=solver):
            zero = jnp.asarray(0.0)
            return solver.step(term, zero, jnp.asarray(0.1), y, data, state, False)[:4]

        y0 = field.init(problem.params, problem.data)
        state = solver.init(term, 0.0, 0.1, y0, stiffness)
        used = jax.jit(step).lower(y0, state, stiffness).compile().memory_analysis()
        assert used.temp_size_in_bytes <= copies * 8 * n


def test_vector_fields():
    """By name only with a loss; as an object for those who know better, and never wrong."""
    matrix = jnp.asarray([[-1.0, 0.4, 0.0], [0.0, -2.0, 0.1], [0.0, 0.0, -300.0]])
    problem = gf.Problem(params=jnp.ones(3), vector_field=lambda t, y, d: matrix @ y)
    with pytest.raises(ValueError, match=r"symmetric.* vector field; take 'kvaerno3', or"):
        gf.solve(problem, t1=1.0, solver="kvaerno3-cg")

    eigenvalues, vectors = np.linalg.eig(np.asarray(matrix))
    weights = np.linalg.solve(vectors, np.ones(3))

    def exact(t):
        return np.exp(np.outer(t, eigenvalues)) * weights @ vectors.T

    error, _ = worst(problem, exact, 3.0, 1e-4, NewtonKrylov(diffrax.Kvaerno3(), 1e-4))
    assert error <= 10


def test_only_methods_that_fit():
    with pytest.raises(ValueError, match="Tsit5 is not an ESDIRK method"):
        NewtonKrylov(diffrax.Tsit5(), 1e-3)


def test_in_plain_diffeqsolve():
    """With diffrax's own controller, a jump in the field, and `vmap`; not differentiated."""
    rates = jnp.asarray([1.0, 200.0])
    term = diffrax.ODETerm(lambda t, y, args: -rates * y * jnp.where(t < 0.7, 1.0, 2.0))

    def final(y0):
        controller = diffrax.ClipStepSizeController(
            diffrax.PIDController(rtol=1e-6, atol=1e-9), jump_ts=jnp.asarray([0.7])
        )
        return diffrax.diffeqsolve(
            term,
            NewtonKrylov(diffrax.Kvaerno5(), 1e-6),
            0.0,
            1.5,
            1e-3,
            y0,
            saveat=diffrax.SaveAt(ts=jnp.asarray([0.31, 1.5])),
            stepsize_controller=controller,
        ).ys

    starts = jnp.asarray([[1.0, 1.0], [0.3, -2.0], [0.0, 0.0]])
    elapsed = np.array([0.31, 0.7 + 2 * 0.8])
    exact = np.asarray(starts)[:, None] * np.exp(-np.outer(elapsed, rates))
    np.testing.assert_allclose(jax.vmap(final)(starts), exact, atol=2e-5)
    with pytest.raises(RuntimeError, match="differentiation does not go through its steps"):
        jax.grad(lambda y: final(y).sum())(starts[0])


def test_conjugate_gradients():
    rng = np.random.default_rng(3)
    rotation = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    right = {"a": jnp.asarray(rng.normal(size=(2, 5))), "b": jnp.asarray(rng.normal(size=20))}

    def solve(eigenvalues, target):
        matrix = rotation @ np.diag(eigenvalues) @ rotation.T

        def product(x):
            y = jnp.asarray(matrix) @ jnp.concatenate([x["a"].ravel(), x["b"]])
            return {"a": y[:10].reshape(2, 5), "b": y[10:]}

        found = conjugate_gradients(product, right, jnp.asarray(target), 0.5)
        x, b = (np.concatenate([v["a"].ravel(), v["b"]]) for v in (found.x, right))
        return found, np.linalg.norm(b - matrix @ x)

    # As many products as there are different eigenvalues.
    found, residual = solve(np.repeat([1.0, 3.0, 1e3], 10), 1e-9)
    assert bool(found.definite)
    assert int(found.products) == 3
    assert residual <= 2e-9
    # What is asked, and no more.
    found, residual = solve(np.geomspace(1.0, 1e3, 30), 0.1)
    assert residual <= 0.1
    assert int(found.products) < 30
    # Nothing asked, nothing done.
    found, _ = solve(np.ones(30), np.inf)
    assert int(found.products) == 0
    # An eigenvalue that is too small, although positive, is told from one that is not.
    for last, definite in ((0.52, True), (0.48, False), (-1.0, False), (np.nan, False)):
        found, _ = solve(np.append(np.geomspace(1.0, 1e4, 29), last), 1e-6)
        assert bool(found.definite) == definite


@pytest.mark.parametrize("method", METHODS)
def test_continuous_extension(method):
    """Exact at both ends, slopes included, and of the order that it claims in between."""
    tableau = method.tableau
    weights = continuous_extension(tableau)
    degree = weights.shape[1]
    unit = np.eye(tableau.num_stages)
    np.testing.assert_allclose(weights.sum(1), tableau.b_sol, atol=1e-8)
    np.testing.assert_allclose(weights[:, 0], unit[0], atol=1e-8)
    np.testing.assert_allclose(weights @ np.arange(1, degree + 1), unit[-1], atol=1e-8)
    order = 4 if method is diffrax.Kvaerno5 else 3
    assert degree == order
    # y' = -y + t^2: one step of several sizes, the error half way.
    solver = NewtonKrylov(method(), 1e-14)
    term = diffrax.ODETerm(lambda t, y, args: -y + t**2)
    sizes, errors = (0.4, 0.2, 0.1), []
    for h in sizes:
        t0, t1, y0 = jnp.asarray(0.0), jnp.asarray(h), jnp.ones(1)
        state = solver.init(term, t0, t1, y0, None)
        dense = solver.step(term, t0, t1, y0, None, state, False)[2]
        s = 0.4 * h
        found = solver.interpolation_cls(t0=t0, t1=t1, **dense).evaluate(s)[0]
        errors.append(abs(float(found) - (s**2 - 2 * s + 2 - np.exp(-s))))
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope == pytest.approx(order + 1, abs=0.3)
