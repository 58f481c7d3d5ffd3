"""Tasks of which it is known what the flow does: their configurations, claims and closed forms."""

import json
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import CONFIGS, KNOWN, gradflow
from numpy.polynomial.hermite_e import hermegauss
from scipy.integrate import solve_ivp
from scipy.special import erf, log_expit
from sklearn.svm import SVC

import gradflow as gf
from gradflow.config import load
from gradflow.tasks import committee, deep_linear, separable, teacher_student

# What would take long, and shows nothing more here.
OVERRIDES = {"ode": ("problem.samples=200", "problem.activation=relu", "flow.t1=3")}


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """The shipped configuration of a name, solved: its task, its run and its claims by name."""

    @cache
    def solve(name):
        config, folder = CONFIGS / f"{name}.yaml", tmp_path_factory.mktemp(name) / "run"
        overrides = OVERRIDES.get(name, ())
        done = gradflow("solve", config, *overrides, "--quiet", "--output", folder)
        assert done.code == 0, done.err
        claims = json.loads((folder / "claims.json").read_text())["claims"]
        return load(config, overrides).problem, gf.load(folder), {c["name"]: c for c in claims}

    return solve


def final(run):
    """The arrays that the run ended with, by name."""
    with np.load(run.directory / "flow-final.npz") as arrays:
        return dict(arrays)


def build(task, seed=0):
    """The problem of a seed, as the command builds it."""
    return task.build(jax.random.key(seed), jax.random.key(seed))


def answers(task, trajectory):
    """Whether each claim holds, by name."""
    return {claim.name: claim.held for claim in task.claims(trajectory)}


def with_values(trajectory, name, values):
    changed = replace(trajectory.variables[name], values=values)
    return replace(trajectory, variables={**trajectory.variables, name: changed})


@pytest.mark.parametrize("name", KNOWN)
def test_every_claim_holds_on_the_shipped_configuration(name, solved):
    task, run, claims = solved(name)
    assert run.flow.result == "end_time"
    assert claims
    assert all(claim["held"] is not False for claim in claims.values()), claims
    assert any(claim["held"] for claim in claims.values())
    drawn = {path.stem for path in (run.directory / "figures").iterdir()}
    assert drawn == {figure.name for figure in task.figures}


def test_figures_are_drawn_again_without_a_model(solved):
    _, run, _ = solved("deep-linear")
    figures = sorted((run.directory / "figures").iterdir())
    before = [path.read_bytes() for path in figures]
    assert gradflow("plot", run.directory).code == 0
    assert [path.read_bytes() for path in figures] == before


# Deep linear networks


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7])
def test_modes_follow_their_equation(depth):
    """u' = D u^(2 - 2/D) (s - u), against SciPy, and half-way at the time said."""
    s, u0, times = np.array([3.0, 0.5]), 0.01, np.array([0.0, 0.1, 0.5, 2.0, 9.0])

    def slope(_, u):
        return depth * u ** (2 - 2 / depth) * (s - u)

    solution = solve_ivp(slope, (0, 9), [u0, u0], "DOP853", times, rtol=1e-12, atol=1e-14)
    found = deep_linear.mode_strengths(s, u0, depth, times)
    np.testing.assert_allclose(found, solution.y.T, rtol=1e-9)
    np.testing.assert_allclose(deep_linear.mode_strengths(s, u0, depth, [1e9])[0], s, rtol=1e-14)
    halves = deep_linear.half_times(s, u0, depth)
    at = deep_linear.mode_strengths(s, u0, depth, halves)
    np.testing.assert_allclose(np.diagonal(at), s / 2, rtol=1e-12)


def test_one_and_two_layers_have_the_formulas_of_the_paper():
    s, u0, t = np.array([3.0, 0.5]), 0.01, np.array([0.2, 1.0, 7.0])[:, None]
    one, two = (deep_linear.mode_strengths(s, u0, depth, t[:, 0]) for depth in (1, 2))
    np.testing.assert_allclose(one, s + (u0 - s) * np.exp(-t), rtol=1e-12)
    np.testing.assert_allclose(two, s / (1 + (s / u0 - 1) * np.exp(-2 * s * t)), rtol=1e-12)


def test_all_weights_follow_the_closed_form(solved):
    """Layer by layer from the start, W_l = R_l A R_(l-1)^T; and the distance that is recorded."""
    task, run, _ = solved("deep-linear")
    start = [np.asarray(weight) for weight in build(task).params]
    found = list(final(run).values())
    a0 = task.initial_strength ** (1 / task.depth)
    a = task.exact([run.flow.final_time])[0] ** (1 / task.depth)
    basis, exact = np.eye(len(a)), []
    for weight in start:
        before, basis = basis, weight @ basis / a0
        exact.append(basis * a @ before.T)
    np.testing.assert_allclose(basis, np.eye(len(a)), atol=1e-14)

    def norm(one, other):
        return np.sqrt(sum(np.sum((x - y) ** 2) for x, y in zip(one, other, strict=True)))

    distance = norm(found, exact) / norm(exact, start)
    assert distance <= 1e-5
    assert task.distance(run.flow)[1][-1] == pytest.approx(distance, rel=1e-6)


def test_a_flow_off_the_closed_form_is_noticed(solved):
    task, run, claims = solved("deep-linear")
    entries = run.flow["entry"] * (1 + 1e-4)
    off = answers(task, with_values(run.flow, "entry", entries))
    assert off["the flow is the closed form"] is False
    assert claims["T_k are those of the closed form"]["value"] <= 1e-6


@pytest.mark.parametrize(
    ("task", "fields", "message"),
    [
        (gf.tasks.DeepLinear, {"strengths": (2.0, 3.0)}, "must be descending"),
        (gf.tasks.DeepLinear, {"width": 3}, "got 3 for 4 modes; allowed: 4 or more"),
        (gf.tasks.DeepLinear, {"initial_strength": 0.5}, "got 0.5; allowed: below 0.5, half"),
        (gf.tasks.MatrixFactorisation, {"size": 3}, "got 4 values; allowed: at most size = 3"),
        (gf.tasks.Committee, {"units": 5, "inputs": 4}, "got 4 for 5 orthogonal units; allowed: 5"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(task, fields, message):
    with pytest.raises(ValueError, match=message):
        task(**fields)


# Matrix factorisation


def test_factors_against_scipy(solved):
    """U' = (M - U V^T) V, V' = (M - U V^T)^T U by DOP853, through all plateaus but the last."""
    task, run, _ = solved("matrix-factorisation")
    problem = build(task)
    shape, matrix = (2, task.size, task.width), np.asarray(problem.data.matrix)
    assert np.linalg.svd(matrix, compute_uv=False)[:4] == pytest.approx(task.strengths)

    def slope(_, vector):
        u, v = vector.reshape(shape)
        rest = matrix - u @ v.T
        return np.concatenate([(rest @ v).ravel(), (rest.T @ u).ravel()])

    start = np.concatenate([np.ravel(part) for part in problem.params])
    end = run.flow.final_time
    exact = solve_ivp(slope, (0, end), start, "DOP853", rtol=1e-10, atol=1e-14).y[:, -1]
    found = np.concatenate([part.ravel() for part in final(run).values()])
    assert np.linalg.norm(found - exact) <= 1e-5 * np.linalg.norm(exact - start)
    u, v = exact.reshape(shape)
    values = np.linalg.svd(u @ v.T, compute_uv=False)
    np.testing.assert_allclose(run.flow["singular_value"][-1], values, atol=1e-5)
    share = values / values.sum()
    entropy = -np.sum(share * np.log(share))
    assert run.flow["effective_rank"][-1] == pytest.approx(np.exp(entropy), rel=1e-4)


def test_the_times_of_a_small_start_become_exact(solved):
    """As a power of its size; a start that is not small has no plateaus, which is noticed."""
    task, _, claims = solved("matrix-factorisation")
    errors = []
    for scale in (1e-1, 1e-2):
        larger = task.model_copy(update={"initial_scale": scale})
        flow = gf.solve(build(larger), t1=18.0, rtol=1e-6, save=gf.Linear(count=400))
        held = answers(larger, flow)
        assert held["plateaus at sum s_j^2/2, j > k, to 1 %"] is False
        errors.append(larger.claims(flow)[1].value)
    errors.append(claims["T_k = log(s_k/u_k - 1) / 2 s_k to 1 %"]["value"])
    assert errors[0] > 10 * errors[1] > 1e3 * errors[2]
    assert np.allclose(task.plateaus, [42.5, 10.5, 2.5, 0.5, 0.0])


# Separable data


def test_the_machine_is_scikit_learns(solved):
    task, _, _ = solved("separable")
    for seed in range(3):
        data = build(task, seed).data
        signed, weight = np.asarray(data.signed), np.asarray(data.machine)
        # Without a bias: both classes are each other's reflection.
        both = np.concatenate([signed, -signed]), np.repeat([1, -1], len(signed))
        svc = SVC(kernel="linear", C=1e10, tol=1e-10).fit(*both)
        np.testing.assert_allclose(svc.coef_[0], weight, rtol=1e-5)
        margins = np.sort(signed @ weight)
        vectors = np.sum(margins < 1.5)
        np.testing.assert_allclose(margins[:vectors], 1.0, rtol=1e-12)
        assert margins[vectors] >= 1 + task.slack - 1e-12
        assert vectors == np.linalg.matrix_rank(data.span)


def test_what_no_plane_separates_is_refused():
    with pytest.raises(ValueError, match="not separable by a plane through the origin"):
        separable.machine(np.array([[1.0, 0.0], [-1.0, 0.0]]))


def test_the_direction_of_the_widest_margin_is_approached_as_said(solved):
    task, run, claims = solved("separable")
    data, (weight,) = build(task).data, final(run).values()
    machine, end = np.asarray(data.machine), run.flow.final_time
    # From the loss and the data alone: the gradient there, and what the direction lacks.
    gradient = -np.exp(log_expit(-data.signed @ weight)) @ np.asarray(data.signed) / task.samples
    assert run.flow["grad_norm"][-1] == pytest.approx(np.linalg.norm(gradient), rel=1e-9)
    gap = np.linalg.norm(weight / np.linalg.norm(weight) - machine / np.linalg.norm(machine))
    constant = claims["|w/|w| - w*/|w*|| = C / log t"]["value"]
    assert gap * np.log(end) == pytest.approx(constant, rel=1e-6)
    # w* log t is all that grows: per unit of log t, -t grad L is w*.
    np.testing.assert_allclose(-end * gradient, machine, rtol=1e-3)
    assert claims["as t^-r of the linearised flow"]["value"] == pytest.approx(1.0, abs=0.15)


def test_wrong_margins_are_noticed(solved):
    task, run, _ = solved("separable")
    widest = with_values(run.flow, "widest_margin", 0.9 * run.flow["widest_margin"])
    held = answers(task, widest)
    assert held["no margin is wider than the SVM's"] is False
    assert held["t L = |w*|^2 to 5 %"] is False


# Committee machines


def test_the_loss_of_committees_is_the_mean_over_gaussian_inputs():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 2, 2))
    nodes, weights = hermegauss(60)
    x = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    outputs = [erf(x @ net.T / np.sqrt(2)).sum(axis=1) for net in (student, teacher)]
    mean = np.outer(weights, weights).ravel() @ (outputs[0] - outputs[1]) ** 2 / (4 * np.pi)
    found = committee.loss(jnp.asarray(student), committee.Data(jnp.asarray(teacher)))
    assert float(found) == pytest.approx(mean, rel=1e-8)


def test_the_saddle_of_committees():
    """Its gradient, its loss and its fastest way out, for three units."""
    saddle, data = committee.Saddle.of(3), committee.Data(jnp.eye(3, 4))
    at = jnp.full((3, 1), saddle.overlap) * jnp.sum(data.teacher, axis=0)
    derivatives = (committee.loss, jax.grad(committee.loss), jax.hessian(committee.loss))
    loss, slope, hessian = jax.jit(lambda *args: [each(*args) for each in derivatives])(at, data)
    assert float(loss) == pytest.approx(saddle.loss, rel=1e-12)
    np.testing.assert_allclose(slope, 0.0, atol=1e-15)
    curvatures = np.linalg.eigvalsh(np.reshape(hessian, (12, 12)))
    assert curvatures[0] == pytest.approx(-saddle.rate, rel=1e-10)
    assert float(jnp.sum(at[0] ** 2)) == pytest.approx(saddle.norm, rel=1e-12)


def test_without_specialisation_nothing_is_said_of_the_plateau(solved):
    task, run, _ = solved("committee")
    early = replace(run.flow, crossings={"specialised": np.empty((0, 2))})
    early = replace(early, event_values={"specialised": -1.0}, final_time=10.0)
    claim = task.claims(early)[0]
    assert (claim.held, claim.note) == (None, "not specialised by t = 10")


# Teachers and students


def test_teachers_and_students_are_drawn_as_the_recipe_says():
    task = gf.tasks.TeacherStudent(samples=50, test_samples=7)
    problem = task.build(jax.random.key(3))
    model, data = problem.model(problem.params), problem.data
    assert problem.size == 33
    assert data.test.inputs.shape == (7, 2)
    assert data.teacher.shape == (4, 3)
    drawn = (teacher_student.network(np.random.default_rng(i), 2, 8, 1, "tanh") for i in range(60))
    weights = np.concatenate([np.ravel(each.layers[0].weight) for each in drawn])
    assert np.std(weights) == pytest.approx(np.sqrt(2 / 10), rel=0.1)

    def outputs(net, x):
        hidden, last = net.layers
        values = np.logaddexp(0, x @ np.asarray(hidden.weight).T + np.asarray(hidden.bias))
        return values @ np.asarray(last.weight)[0] + np.asarray(last.bias)

    assert not np.any(np.asarray(model.layers[0].bias))
    exact = (outputs(model, np.asarray(data.train.inputs)) - np.asarray(data.train.targets)) ** 2
    np.testing.assert_allclose(teacher_student.sample_loss(model, data), exact, rtol=1e-10)


def test_what_students_and_teachers_have_in_common(solved):
    task, run, claims = solved("ode")
    arrays, teacher = final(run), np.asarray(build(task).data.teacher)
    student = np.column_stack([arrays["layers.0.weight"], arrays["layers.0.bias"]])
    exact = (student @ teacher.T) / np.outer(
        np.linalg.norm(student, axis=1), np.linalg.norm(teacher, axis=1)
    )
    np.testing.assert_allclose(run.flow["cosine"][-1], exact, rtol=1e-10)
    found = claims["each teacher unit is found"]["value"]
    assert found == pytest.approx(np.abs(exact).max(axis=0).min(), rel=1e-10)
