"""Polishing: critical points that are known, of what type they are, and whether flows go there."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy
from command import gradflow
from problems import Bowl, flat, logistic_scalar

import gradflow as gf
from gradflow.critical_points import Polish
from gradflow.critical_points.approach import Modes

FREE = ("newton", "newton-cg", "bfgs")  # of what a problem consists of
TARGET = 1e-12


def gradient_norm(problem, params):
    gradient = jax.jit(jax.grad(problem.loss))(params, problem.data)
    return float(jnp.linalg.norm(flat(0, gradient, None)))


def double_well(params, data):
    x, y = params
    return (x**2 - 1) ** 2 / 4 + y**2 / 2


def rosenbrock(params, data):
    x, y = params
    return (1 - x) ** 2 + 5 * (y - x**2) ** 2


def linear_network(noise):
    """Two layers, 3-4-2: the outputs have 6 entries, and the weights 20."""
    rng = np.random.default_rng(0)
    inputs, teacher = rng.normal(size=(20, 3)), rng.normal(size=(2, 3))
    first, second = rng.normal(size=(4, 3)) / 2, rng.normal(size=(2, 4)) / 2
    targets = inputs @ teacher.T + noise * rng.normal(size=(20, 2))
    weights = jnp.asarray(first), jnp.asarray(second)
    return gf.Problem(params=weights, data=(inputs, targets), sample_loss=squared_errors)


def squared_errors(weights, data):
    inputs, targets = data
    first, second = weights
    return jnp.sum((inputs @ first.T @ second.T - targets) ** 2, axis=1)


@pytest.fixture(scope="module")
def bowl():
    bowl = Bowl([1.0, 3.0, 10.0])
    return bowl, gf.solve(bowl.problem, t1=1.0, rtol=1e-7)


@pytest.mark.parametrize("method", FREE)
def test_a_quadratic(bowl, method):
    bowl, flow = bowl
    point = gf.polish(bowl.problem, flow, method=method)
    np.testing.assert_allclose(flat(0, point.params, None), bowl.minimum, atol=1e-12)
    np.testing.assert_allclose(point.eigenvalues, [10, 3, 1], rtol=1e-12)
    assert (point.type, point.index, point.flat, point.reason) == ("minimum", 0, 0, "")
    assert point.heading_there
    travelled = np.linalg.norm(bowl.flow(1.0) - bowl.start)
    left = np.linalg.norm(bowl.flow(1.0) - bowl.minimum)
    assert point.distance == pytest.approx(left, rel=1e-6)
    assert point.relative_distance == pytest.approx(left / travelled, rel=1e-6)

    offset = bowl.basis.T @ (bowl.start - bowl.minimum)

    def excess(t):
        gradient = bowl.eigenvalues * np.exp(-bowl.eigenvalues * t) * offset
        return np.log(np.linalg.norm(gradient) / TARGET)

    exact = scipy.optimize.brentq(excess, 0.0, 100.0)
    assert point.t_infinity == pytest.approx(exact, abs=1e-5)
    assert point.rate == pytest.approx(1, rel=1e-6)


def test_a_flow_that_is_too_slow_to_be_followed():
    slow = Bowl([1e-7, 1.0, 1e4])
    point = gf.polish(slow.problem)
    assert (point.type, point.heading_there) == ("minimum", None)
    np.testing.assert_allclose(point.eigenvalues, [1e4, 1, 1e-7], rtol=1e-5)
    left = abs(slow.basis.T[0] @ (slow.start - slow.minimum))
    assert point.t_infinity == pytest.approx(np.log(1e-7 * left / TARGET) / 1e-7, rel=1e-4)


@pytest.mark.parametrize("method", FREE)
def test_rosenbrocks_valley(method):
    problem = gf.Problem(rosenbrock, (jnp.asarray(-1.2), jnp.asarray(1.0)))
    point = gf.polish(problem, method=method, gradient_norm=1e-8)
    np.testing.assert_allclose(point.params, [1, 1], atol=1e-6)
    assert gradient_norm(problem, point.params) == pytest.approx(point.gradient_norm, abs=1e-14)
    assert point.gradient_norm <= 1e-8
    assert (point.type, point.heading_there) == ("minimum", True)
    np.testing.assert_allclose(
        point.eigenvalues, np.linalg.eigvalsh([[42, -20], [-20, 10]])[::-1], rtol=1e-4
    )

    def slope(t, p):
        return np.array([2 * (1 - p[0]) + 20 * p[0] * (p[1] - p[0] ** 2), -10 * (p[1] - p[0] ** 2)])

    def excess(t, p):
        return np.linalg.norm(slope(t, p)) - 1e-8

    excess.terminal = True
    there = scipy.integrate.solve_ivp(
        slope, (0, 200), [-1.2, 1.0], method="LSODA", rtol=1e-10, atol=1e-13, events=excess
    )
    assert point.t_infinity == pytest.approx(there.t_events[0][0], rel=0.01)


@pytest.mark.parametrize("method", FREE)
def test_a_saddle_only_from_its_stable_manifold(method):
    on = gf.polish(gf.Problem(double_well, jnp.array([0.0, 1.0])), method=method)
    assert (on.type, on.index, on.flat, on.heading_there) == ("saddle", 1, 0, True)
    np.testing.assert_allclose(on.params, [0, 0], atol=1e-12)
    np.testing.assert_allclose(on.eigenvalues, [1, -1], rtol=1e-12)
    assert on.t_infinity is None
    assert on.describe() == "saddle of index 1"
    beside = gf.polish(gf.Problem(double_well, jnp.array([-1e-6, 1.0])), method=method)
    assert (beside.type, beside.heading_there) == ("minimum", True)
    np.testing.assert_allclose(beside.params, [-1, 0], atol=1e-12)


def test_the_flow_was_heading_elsewhere():
    # The first step of BFGS is a quarter of the gradient, across the barrier.
    problem = gf.Problem(double_well, jnp.array([2.5, 0.0]))
    jumped, followed = (gf.polish(problem, method=method) for method in ("bfgs", "newton"))
    np.testing.assert_allclose(jumped.params, [-1, 0], atol=1e-12)
    np.testing.assert_allclose(followed.params, [1, 0], atol=1e-12)
    assert (jumped.type, jumped.heading_there, jumped.t_infinity) == ("minimum", False, None)
    assert followed.heading_there
    assert "NOT heading there" in jumped.lines()[-1]


def test_half_the_way_to_a_minimum_may_lead_to_another():
    # From 0 the flow ends at 1; on its way it halves the distance from 1.5 as well.
    problem = gf.Problem(lambda x, _: 3 * ((x - 1) * (x - 1.5)) ** 2, 0.0)
    jumped = gf.polish(problem, method="bfgs")
    assert float(jumped.params) == pytest.approx(1.5)
    assert (jumped.type, jumped.heading_there, jumped.t_infinity) == ("minimum", False, None)


def test_of_a_saddle_beside_the_start_it_is_not_told():
    problem = gf.Problem(double_well, jnp.array([1e-13, 1.0]))
    point = gf.polish(problem, method="bfgs")
    assert (point.describe(), point.heading_there) == ("saddle of index 1", None)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("method", ["newton", "newton-cg", "levenberg-marquardt"])
def test_the_minima_of_a_linear_network_are_a_manifold(method, noise):
    problem = linear_network(noise)
    point = gf.polish(problem, gf.solve(problem, t1=20.0), method=method)
    assert point.gradient_norm <= TARGET
    assert (point.type, point.index, point.flat) == ("degenerate minimum", 0, 20 - 6)
    assert point.heading_there
    inputs, targets = (np.asarray(part) for part in problem.data)
    best = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    least = np.mean(np.sum((inputs @ best - targets) ** 2, axis=1))
    assert point.loss == pytest.approx(least, abs=1e-15)
    first, second = (np.asarray(weights) for weights in point.params)
    np.testing.assert_allclose(second @ first, best.T, atol=1e-10)
    if noise == 0:  # without residuals the Hessian is that of Gauss and Newton
        jacobian = np.hstack(
            [np.kron(inputs, second).reshape(20 * 2, -1), np.kron(inputs @ first.T, np.eye(2))]
        )
        exact = scipy.linalg.svdvals(jacobian) ** 2 * 2 / 20
        np.testing.assert_allclose(point.eigenvalues[:6], exact[:6], rtol=1e-9)
    # Of all directions that are not flat the slowest is left in the end.
    assert point.rate == pytest.approx(point.eigenvalues[5], rel=0.3)


@pytest.mark.parametrize("method", ["newton", "newton-cg"])
def test_there_is_no_minimum_at_finite_distance(method):
    separable, *_ = logistic_scalar()
    point = gf.polish(separable, method=method)
    assert (point.type, point.found) == ("at infinity", False)
    assert (point.heading_there, point.t_infinity, point.rate) == (None, None, None)
    assert "no critical point at finite distance" in point.lines()[1]


@pytest.mark.parametrize("method", ["newton", "newton-cg"])
@pytest.mark.parametrize("power", [1, 2])
def test_there_is_none_at_the_end_of_a_power_either(power, method):
    # Each step of Newton's method is 1 / (power + 1) of x, at curvatures 12 orders below the first.
    point = gf.polish(gf.Problem(lambda x, _: x**-power, 1.0), method=method)
    assert (point.type, point.found, point.heading_there) == ("at infinity", False, None)
    assert point.gradient_norm == pytest.approx(power * float(point.params) ** -(power + 1))


@pytest.mark.parametrize("loss", [jnp.sum, lambda params: jnp.sum(jnp.abs(params))])
def test_a_slope_without_curvature_ends_nowhere(loss):
    problem = gf.Problem(lambda params, _: loss(params), jnp.array([1.0, 0.3]))
    point = gf.polish(problem, max_steps=200)
    assert (point.type, point.found, point.heading_there) == ("not converged", False, None)
    assert point.gradient_norm >= 1
    assert point.loss < float(loss(problem.params))
    assert point.eigenvalues.tolist() == [0, 0]


def test_a_minimum_of_higher_order():
    # To which the flow goes as a power of t, however fast it is in the other direction.
    problem = gf.Problem(lambda p, _: p[0] ** 6 + 100 * p[1] ** 2, jnp.array([0.3, 1.0]))
    point = gf.polish(problem)
    assert point.describe() == "degenerate minimum with 1 flat direction"
    assert (point.heading_there, point.rate, point.t_infinity) == (True, None, None)
    assert abs(point.params[0]) <= (TARGET / 6) ** 0.2


def test_many_parameters():
    def loss(params, curvatures):
        return curvatures @ params**2 / 2 + params[0] ** 4

    curvatures = jnp.repeat(jnp.array([2.0, 5.0, 9.0]), 700)
    start = jnp.ones(2100).at[0].set(0.0)
    minimum = gf.polish(gf.Problem(loss, start, curvatures))
    assert minimum.method == "newton-cg"
    assert minimum.gradient_norm <= TARGET
    assert minimum.describe() == "minimum or degenerate"
    assert (minimum.flat, minimum.complete, minimum.heading_there) == (None, False, True)
    # |grad L| is that of the slowest 699 directions in the end: 2 e^-2t each.
    assert minimum.rate == pytest.approx(2, rel=1e-6)
    assert minimum.t_infinity == pytest.approx(np.log(2 * 699**0.5 / TARGET) / 2, rel=1e-6)
    saddle = gf.polish(gf.Problem(loss, 0 * start, curvatures.at[0].set(-1.0)))
    assert saddle.describe() == "saddle of index 1 at least"
    np.testing.assert_allclose(saddle.eigenvalues[[0, -1]], [9, -1], atol=1e-10)


def test_single_precision_has_fewer_digits():
    point = gf.polish(gf.Problem(double_well, jnp.array([0.3, 1.0], jnp.float32)))
    assert point.params.dtype == jnp.float32
    np.testing.assert_allclose(point.params, [1, 0], atol=1e-6)
    assert (point.type, point.heading_there) == ("minimum", True)
    assert point.gradient_norm < 1e-6


def test_of_a_single_rate_the_time_is_a_logarithm():
    for rates in (np.array([0.3]), np.full(3, np.float32(0.7))):
        for amplitude in np.geomspace(1e-3, 1e3, 40).astype(rates.dtype):
            left = np.full(len(rates), amplitude)
            time = Modes(rates, left / rates, left, 0.0).when(left, 0.0, TARGET)
            exact = np.log(np.linalg.norm(left) / TARGET) / rates[0]
            np.testing.assert_allclose(time, exact, rtol=1e-6)


def test_what_ends_it_early():
    problem = gf.Problem(rosenbrock, (jnp.asarray(-1.2), jnp.asarray(1.0)))
    short = gf.polish(problem, max_steps=3)
    assert (short.type, short.reason, short.steps) == ("not converged", "max_steps", 3)
    assert (short.heading_there, short.t_infinity) == (None, None)
    assert short.loss < rosenbrock(problem.params, None)
    assert gf.polish(problem, cancelled=lambda: True).reason == "cancelled"
    # Wherever that interrupts it, nothing is said of where the flow goes that is not so.
    wells = gf.Problem(double_well, jnp.array([-1e-6, 1.0]))
    for looks in range(0, 160, 8):
        asked = iter(range(looks))
        point = gf.polish(wells, cancelled=lambda asked=asked: next(asked, None) is None)
        assert point.heading_there is not False


def test_what_is_refused(bowl):
    bowl, flow = bowl
    with pytest.raises(TypeError, match="this problem is a vector field; allowed: a problem that"):
        gf.polish(gf.Problem(params=jnp.ones(2), vector_field=lambda t, p, data: -p))
    with pytest.raises(TypeError, match="no sample_loss; allowed: newton"):
        gf.polish(bowl.problem, method="levenberg-marquardt")
    with pytest.raises(ValueError, match="method = 'newtom'"):
        gf.polish(bowl.problem, method="newtom")
    with pytest.raises(ValueError, match=r"gradient_norm = 0\.0"):
        gf.polish(bowl.problem, gradient_norm=0.0)
    with pytest.raises(ValueError, match=r"no final_params.* flow-final\.npz"):
        gf.polish(bowl.problem, gf.Trajectory({}, {}, 1.0, {}, "end_time"))
    with pytest.raises(ValueError, match="give parameters like the problem's own"):
        gf.polish(bowl.problem, jnp.ones(3))
    longer = jax.tree.map(lambda leaf: jnp.append(leaf, 1.0), bowl.problem.params)
    with pytest.raises(ValueError, match=r"shapes \[\(3,\), .* have \[\(2,\), "):
        gf.polish(bowl.problem, longer)
    momentum = dataclasses.replace(flow, attrs=flow.attrs | {"field": "heavy_ball"})
    with pytest.raises(ValueError, match=r"field 'heavy_ball'.* give one of the gradient flow"):
        gf.polish(bowl.problem, momentum)


class Dropping(eqx.Module):
    """A model with a float that is not trained, as `equinox.nn.Dropout` has one."""

    weights: jax.Array
    p: float = 0.5


def test_what_is_no_parameter_of_a_model_is_kept():
    start = Dropping(jnp.ones(2))
    problem = gf.Problem(lambda model, _: model.p * jnp.sum(model.weights**2), start)
    point = gf.polish(problem, Dropping(jnp.full(2, 3.0)))
    np.testing.assert_allclose(point.params.weights, [0, 0], atol=1e-12)
    assert (point.type, point.params.p) == ("minimum", 0.5)
    assert point.distance == pytest.approx(18**0.5)
    np.testing.assert_allclose(point.eigenvalues, [1, 1])
    # In the precision of the problem's own.
    single = gf.Problem(lambda p, _: jnp.sum(p**2), jnp.ones(2, jnp.float32))
    assert gf.polish(single, jnp.ones(2)).params.dtype == jnp.float32


OWN = """
import jax.numpy as jnp
import gradflow as gf

def make():
    return gf.Problem(lambda p, _: p["x"] ** 2 + jnp.sum(p["y"] ** 2), {"x": 1.0, "y": jnp.ones(2)})
"""


def test_the_command(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "own.yaml").write_text(
        "problem: {kind: python, target: own.py:make}\nflow: {t1: 1}\npolish: true\nfigures: false"
    )
    done = gradflow("solve", tmp_path / "own.yaml", "--output", tmp_path / "run")
    assert done.code == 0
    assert "polished: minimum, loss " in done.err
    assert "polished: the flow was heading there\n" in done.err
    assert "polished: its gradient decays at the rate 2 in the end; t_infinity = " in done.err
    found = json.loads((tmp_path / "run/summary.json").read_text())["critical_point"]
    assert (found["type"], found["index"], found["flat"]) == ("minimum", 0, 0)
    assert (found["heading_there"], found["method"]) == (True, "newton")
    assert found["t_infinity"] == pytest.approx(np.log(2 * 3**0.5 / TARGET) / 2, rel=1e-4)
    assert found["largest_eigenvalues"] == pytest.approx([2, 2, 2])
    with np.load(tmp_path / "run/critical-point.npz") as params:
        np.testing.assert_allclose(params["y"], [0, 0], atol=1e-12)
    with np.load(tmp_path / "run/critical-point-eigenvalues.npz") as spectrum:
        np.testing.assert_allclose(spectrum["eigenvalues"], [2, 2, 2])


def test_true_is_short_for_all_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("problem: {kind: digits}\nflow: {t1: 1}\npolish: {max_steps: 7}")
    from gradflow.config import load

    assert load(path).polishing == Polish(max_steps=7)
    assert load(path, ["polish=true"]).polishing == Polish()
    assert load(path, ["polish=false"]).polishing is None
