"""The stabilised methods: order, stability, error estimate, counting, and an independent code."""

import diffrax
import equinox as eqx
import extensisq
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import Chebyshev, Legendre
from problems import flat, quadratic, relative_errors
from scipy.integrate import solve_ivp

import gradflow as gf
from gradflow.solvers import RKC2, RKL2, CountedField, Counter, GivenRadius

FAMILIES = {RKC2: Chebyshev, RKL2: Legendre}
METHODS = pytest.mark.parametrize("method", FAMILIES)
RATE = 3.0


def smooth(t, y, args):
    """Linear and stiff about cos t (Prothero & Robinson 1974), linear, and nonlinear."""
    del args  # the spectral radius
    forced = -RATE * 10 * (y["forced"] - jnp.cos(t)) - jnp.sin(t)
    return {"forced": forced, "linear": -y["linear"], "nonlinear": -(y["nonlinear"] ** 2)}


def exact(t):
    return {
        "forced": np.cos(t) + np.exp(-RATE * 10 * t),
        "linear": np.exp(-t),
        "nonlinear": 1 / (1 + t),
    }


@eqx.filter_jit
def at_one(method, step, radius):
    """The end of fixed steps to t = 1, with the spectral radius given."""
    return diffrax.diffeqsolve(
        diffrax.ODETerm(smooth),
        method(GivenRadius(lambda t, y, args: args)),
        jnp.asarray(0.0),
        jnp.asarray(1.0),
        step,
        {"forced": jnp.asarray(2.0), "linear": jnp.asarray(1.0), "nonlinear": jnp.asarray(1.0)},
        args=radius,
        max_steps=1000,
    ).ys


@pytest.mark.parametrize("stages", [2, 3, 7, 40, 200])
@METHODS
def test_order(method, stages):
    """Errors at t = 1 fall as h^2: linear, nonlinear and non-autonomous, at any stage count."""
    errors = []
    counts = np.array([160, 320, 640])
    for steps in counts:
        # A radius that asks for just these stages at this step.
        radius = 0.999 * method().coefficients.interval[stages - 2] * steps
        found = at_one(method, jnp.asarray(1.0 / steps), jnp.asarray(radius))
        reference = exact(1.0)
        errors.append([abs(float(found[k][-1]) - reference[k]) for k in sorted(reference)])
    orders = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    np.testing.assert_allclose(orders, 2.0, atol=0.1)


def stability_polynomial(method, stages):
    """R_s from NumPy's own polynomials: a_s + b_s P_s(w0 + w1 z), and its interval."""
    p = FAMILIES[method].basis(stages)
    w0 = 1 + method().damping / stages**2
    first, second = p.deriv(1)(w0), p.deriv(2)(w0)
    w1, b = first / second, second / first**2
    return lambda z: 1 - b * p(w0) + b * p(w0 + w1 * z), (w0 + 1) / w1


@eqx.filter_jit
def decay_step(method, rates):
    """One step of size one of y' = -rates y from one."""
    term = diffrax.ODETerm(lambda t, y, args: -rates * y)
    one = jnp.ones_like(rates)
    state = method.init(term, jnp.asarray(0.0), jnp.asarray(1.0), one, None)
    return method.step(term, jnp.asarray(0.0), jnp.asarray(1.0), one, None, state, False)


@METHODS
def test_stability(method):
    """|R_s| <= 1 on the interval claimed, for all s to 500, and R_s is what a step does."""
    table = method().coefficients
    assert table.interval.size == 499

    @jax.jit
    def step(radius):
        rates = jnp.linspace(0.0, 1.0, 401) * radius
        solver = method(GivenRadius(lambda t, y, args: args))
        term = diffrax.ODETerm(lambda t, y, args: -rates * y)
        one = jnp.ones_like(rates)
        t0, t1 = jnp.asarray(0.0), jnp.asarray(1.0)
        state = solver.init(term, t0, t1, one, radius)
        y1, _, _, state, _ = solver.step(term, t0, t1, one, radius, state, False)
        return y1, state.stages

    for s in range(2, 501):
        polynomial, interval = stability_polynomial(method, s)
        assert table.interval[s - 2] == pytest.approx(interval, rel=1e-9)
        found, stages = step(jnp.asarray(interval * (1 - 1e-12)))
        assert stages == s
        assert np.max(np.abs(found)) <= 1 + 1e-10
        if s <= 20:  # NumPy's derivatives of higher ones lose digits
            np.testing.assert_allclose(
                found, polynomial(-np.linspace(0, interval, 401)), atol=1e-11
            )
    if method is RKC2:
        s = np.arange(2, 501)
        np.testing.assert_allclose(
            table.interval[8:] / s[8:] ** 2, 2 / 3 * (1 - 4 / 195), rtol=0.02
        )


@pytest.mark.parametrize("stages", [2, 3, 5, 30])
@METHODS
def test_error_estimate(method, stages):
    """The estimate is the error of the step itself, to leading order, at every stage count."""
    rates = jnp.asarray([1e-2, 3e-2])
    radius = float(0.999 * method().coefficients.interval[stages - 2])
    solver = method(GivenRadius(lambda t, y, args: jnp.asarray(radius)))
    y1, error, _, state, _ = decay_step(solver, rates)
    assert state.stages == stages
    np.testing.assert_allclose(error, np.exp(-rates) - y1, rtol=0.05)


@METHODS
def test_evaluations_are_counted(method):
    """Evaluations reported are those that a host sees: stages, estimates, refused steps."""
    problem, _, _ = quadratic([1000.0, 30.0, 1.0, 0.1])
    flow = gf.solve(problem, t1=10.0, rtol=1e-5, solver=method())

    counter = Counter()
    gradient = CountedField(lambda t, p, data: jax.grad(problem.loss)(p, data), counter)
    copy = gf.Problem(
        vector_field=lambda t, p, data: jax.tree.map(jnp.negative, gradient(t, p, data)),
        params=problem.params,
        data=problem.data,
    )
    again = gf.solve(copy, t1=10.0, rtol=1e-5, solver=method())
    assert again.stats["gradient_evaluations"] == counter.read()
    # The energy dissipated is in one state and not in the other; the steps are the same.
    assert flow.stats["gradient_evaluations"] == pytest.approx(counter.read(), rel=0.01)
    stages = counter.read() - 2
    assert stages > 2 * (flow.stats["accepted"] + flow.stats["rejected"])


@pytest.mark.parametrize("rtol", [1e-2, 1e-4])
@METHODS
def test_tolerance(method, rtol):
    """The whole run's error is within ten times rtol, and falls with it, on stiff quadratics."""
    eigenvalues = np.geomspace(1e-2, 1e4, 30)
    problem, start, solution = quadratic(eigenvalues)
    flow = gf.solve(problem, t1=100.0, rtol=rtol, solver=method(), observables={"flat": flat})
    errors = relative_errors(flow["flat"][1:], solution(flow.time[1:]), start)
    assert rtol / 1000 < errors.max() <= 10 * rtol
    assert flow.stats["rejected"] <= 0.05 * flow.stats["accepted"]
    # Where explicit methods take 2 radius t1 / 2.5 steps of three evaluations or more.
    assert flow.stats["gradient_evaluations"] < 1e6 * 1.2 / 30


def tanh_net():
    """A teacher-student problem, stiff by the scale of its inputs."""
    keys = jax.random.split(jax.random.key(1), 4)
    x = jax.random.normal(keys[0], (60, 4)) * jnp.asarray([6.0, 3.0, 1.0, 0.3])

    def net(p, x):
        return jnp.tanh(x @ p["w"]) @ p["v"]

    def weights(key):
        one, two = jax.random.split(key)
        return {"w": jax.random.normal(one, (4, 8)) / 2, "v": jax.random.normal(two, (8,))}

    return gf.Problem(
        lambda p, d: jnp.mean((net(p, d[0]) - d[1]) ** 2) * 20,
        weights(keys[1]),
        (x, net(weights(keys[2]), x)),
    )


def test_against_an_independent_code():
    """SSV2stab of extensisq, the same method for SciPy: same flow, and no fewer gradients."""
    problem = tanh_net()
    start, unravel = jax.flatten_util.ravel_pytree(problem.params)
    calls = [0]

    @jax.jit
    def slope(y):
        return -jax.flatten_util.ravel_pytree(jax.grad(problem.loss)(unravel(y), problem.data))[0]

    def field(t, y):
        calls[0] += 1
        return np.asarray(slope(y))

    def solve(method, rtol):
        calls[0] = 0
        found = solve_ivp(field, (0.0, 20.0), start, method=method, rtol=rtol, atol=1e-3 * rtol)
        return found.y[:, -1], calls[0]

    reference, _ = solve("LSODA", 1e-11)

    def error(y):
        return np.linalg.norm(y - reference) / np.linalg.norm(reference - start)

    theirs = np.array([(error(y), n) for y, n in (solve(extensisq.SSV2stab, r) for r in RTOLS)])
    ours = []
    for rtol in RTOLS:
        flow = gf.solve(problem, t1=20.0, rtol=rtol, solver="rkc2")
        end = np.asarray(jax.flatten_util.ravel_pytree(flow.final_params)[0])
        ours.append((error(end), flow.stats["gradient_evaluations"]))
    ours = np.array(ours)
    assert np.all(ours[:, 0] <= 10 * np.array(RTOLS))
    assert np.all(np.diff(theirs[:, 0]) < 0)
    # Gradients at matched error, where both ladders reach.
    low = max(ours[:, 0].min(), theirs[:, 0].min())
    high = min(ours[:, 0].max(), theirs[:, 0].max())
    assert low < high
    at = np.log(np.geomspace(low, high, 5))

    def gradients(rows):
        return np.interp(at, np.log(rows[::-1, 0]), np.log(rows[::-1, 1]))

    assert np.all(gradients(ours) <= gradients(theirs))


RTOLS = (1e-2, 1e-3, 1e-4, 1e-5)


@METHODS
def test_transformations(method):
    """Under jit and vmap, with forward mode and by the adjoint equation; reverse mode says why."""

    def end(y0, adjoint, rate=50.0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -rate * y**3),
            method(),
            jnp.asarray(0.0),
            jnp.asarray(1.0),
            None,
            y0,
            stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-8),
            adjoint=adjoint,
            max_steps=4000,
        ).ys[-1]

    def solution(y0, rate=50.0):
        return y0 / jnp.sqrt(1 + 2 * rate * y0**2)

    starts = jnp.asarray([0.5, 1.0, 2.0])
    forward = diffrax.ForwardMode()
    found = jax.jit(jax.vmap(lambda y: end(y, forward)))(starts)
    np.testing.assert_allclose(found, solution(starts), rtol=1e-5)
    one = jnp.asarray(1.0)
    tangent = jax.jvp(lambda y: end(y, forward), (one,), (one,))[1]
    np.testing.assert_allclose(tangent, jax.grad(solution)(one), rtol=1e-3)
    # Backwards in time a flow is unstable: a mild one.
    backwards = jax.grad(lambda y: end(y, diffrax.BacksolveAdjoint(), 1.0))(one)
    np.testing.assert_allclose(backwards, jax.grad(solution)(one, 1.0), rtol=1e-4)
    with pytest.raises(RuntimeError, match="BacksolveAdjoint"):
        jax.grad(lambda y: end(y, diffrax.RecursiveCheckpointAdjoint()))(one)


@METHODS
def test_float32(method):
    """Single precision stays single, and takes about the steps that double precision takes."""
    evaluations = {}
    for dtype in (jnp.float32, jnp.float64):
        problem = tanh_net()
        cast = jax.tree.map(lambda x: x.astype(dtype), (problem.params, problem.data))  # noqa: B023
        problem = gf.Problem(problem.loss, *cast)
        flow = gf.solve(problem, t1=20.0, rtol=1e-3, solver=method())
        assert all(x.dtype == dtype for x in jax.tree.leaves(flow.final_params))
        evaluations[dtype] = flow.stats["gradient_evaluations"]
    assert evaluations[jnp.float32] <= 1.1 * evaluations[jnp.float64]


@METHODS
def test_dense_output(method):
    """Between the ends of a step the interpolant errs by h^3, as the step itself does."""
    errors = []
    for h in (0.1, 0.05):
        term = diffrax.ODETerm(lambda t, y, args: -(y**2))
        solver = method(GivenRadius(lambda t, y, args, h=h: jnp.asarray(10 / h)))
        t0, t1, y0 = jnp.asarray(0.0), jnp.asarray(h), jnp.asarray(1.0)
        state = solver.init(term, t0, t1, y0, None)
        _, _, dense, _, _ = solver.step(term, t0, t1, y0, None, state, False)
        curve = solver.interpolation_cls(t0=t0, t1=t1, **dense)
        times = h * jnp.linspace(0.0, 1.0, 11)
        found = jax.vmap(curve.evaluate)(times)
        slopes = jax.vmap(curve.derivative)(times)
        errors.append(np.max(np.abs(found - 1 / (1 + times))))
        np.testing.assert_allclose(slopes, -1 / (1 + times) ** 2, rtol=0.3 * h)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.3)


def test_stage_limit():
    """Few stages allowed: shorter steps, none of them refused for it."""
    problem, start, solution = quadratic([1e3, 1.0])
    few = gf.solve(
        problem, t1=5.0, rtol=1e-3, solver=RKC2(max_stages=4), observables={"flat": flat}
    )
    assert few.stats["rejected"] <= 2
    assert few.stats["accepted"] > 5 * 1e3 / RKC2().coefficients.interval[2]
    assert relative_errors(few["flat"][-1], solution(few.time[-1:]), start)[0] < 1e-2


@pytest.mark.parametrize("radius", [np.nan, -1.0])
def test_a_wrong_radius_is_named(radius):
    problem, _, _ = quadratic([10.0, 1.0])
    solver = RKC2(GivenRadius(lambda t, y, args: jnp.asarray(radius)))
    with pytest.raises(Exception, match=r"spectral radius that was given is NaN or negative"):
        gf.solve(problem, t1=1.0, solver=solver)


def test_too_few_stages_are_refused():
    with pytest.raises(ValueError, match=r"max_stages = 1 is too small: two stages"):
        RKC2(max_stages=1)
