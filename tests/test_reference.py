"""The oracle is held against eq. 1 in plain loops, finite differences and conservation laws."""

from collections.abc import Callable

import numpy as np
import pytest
import reference as ref
from numpy.typing import NDArray
from scipy.special import softmax

Array = NDArray[np.float64]
Problem = tuple[ref.Weights, Array, NDArray[np.int64], Array]

CLASS_SIZES = (5, 2, 2, 2)
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(40)


def make_problem(
    d: int = 9, m: int = 6, m1: int = 8, length: int = 4, scale: float = 1.0, seed: int = 3
) -> Problem:
    """Definition 2.1 with fixed class sizes; a random word may occur more than once."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, d, size=(sum(CLASS_SIZES), length))
    member = np.repeat(np.arange(4), CLASS_SIZES)
    for row, k in zip(tokens, member, strict=True):
        common, first, second = rng.permutation(length)[:3]
        row[common] = 2
        if k in (0, 1):
            row[first] = 0
        if k in (0, 2):
            row[second] = 1
    labels = np.where(member == 0, 1.0, -1.0)
    shapes = ((m1, m), (m, d), (m, d), (m, d))
    weights = ref.Weights(*(scale * rng.uniform(-1, 1, shape) for shape in shapes))
    return weights, rng.choice([-1.0, 1.0], m1), tokens, labels


@pytest.fixture
def problem() -> Problem:
    return make_problem()


def integral(f: Callable[[Array], Array], start: float, end: float) -> Array:
    """The integral of f over [start, end], by Gauss-Legendre; f maps (T,) to (T, ...)."""
    times = start + (end - start) * (NODES + 1) / 2
    return np.tensordot(NODE_WEIGHTS, f(times), axes=1) * (end - start) / 2


def test_prediction_is_equation_1_in_plain_loops(problem: Problem) -> None:
    (w, w_v, w_k, w_q), a, tokens, _ = problem
    m, d = w_v.shape
    for row, output in zip(tokens, ref.predict(*problem[:3]), strict=True):
        x = np.zeros((d, len(row)))
        x[row, np.arange(len(row))] = 1
        total = 0.0
        for position in range(len(row)):
            p = softmax(x.T @ w_k.T @ w_q @ x[:, position] / np.sqrt(m))
            for j in range(len(a)):
                total += a[j] * w[j] @ w_v @ x @ p
        assert output == pytest.approx(total, rel=1e-13)


def test_gradient_agrees_with_complex_step_differences_entry_by_entry(problem: Problem) -> None:
    weights, *rest = problem
    vector, step = ref.pack(weights), 1e-30
    differences = np.empty_like(vector)
    for i in range(len(vector)):
        shifted = vector.astype(complex)
        shifted[i] += 1j * step
        differences[i] = ref.loss(ref.unpack(shifted, weights), *rest).imag / step
    pairs = zip(ref.gradient(*problem), ref.unpack(differences, weights), strict=True)
    for computed, expected in pairs:
        assert np.linalg.norm(computed - expected) < 1e-13 * np.linalg.norm(expected)


def test_gradient_agrees_with_central_differences_in_extended_precision() -> None:
    problem = make_problem(d=20, m=24, m1=32, length=6, scale=0.5, seed=5)
    weights, *rest = problem
    vector, gradient = ref.pack(weights), ref.gradient(*problem)
    rng = np.random.default_rng(0)
    for block in range(4):  # a random direction in each matrix
        direction = ref.unpack(np.zeros_like(vector), weights)
        direction[block][:] = rng.standard_normal(direction[block].shape)
        step = np.longdouble(1e-5) * ref.pack(direction)
        ahead, behind = (
            ref.loss(ref.unpack(v, weights), *rest) for v in (vector + step, vector - step)
        )
        expected = float((ahead - behind) / 2e-5)
        assert np.sum(gradient[block] * direction[block]) == pytest.approx(expected, rel=1e-8)


def test_pack_and_unpack_are_inverse(problem: Problem) -> None:
    again = ref.unpack(ref.pack(problem[0]), problem[0])
    assert all(np.array_equal(x, y) for x, y in zip(again, problem[0], strict=True))


def test_observables_follow_their_definitions(problem: Problem) -> None:
    (w, w_v, w_k, w_q), a, _, labels = problem
    seen = ref.observables(*problem)
    margins = labels * ref.predict(*problem[:3])
    g = 1 / (1 + np.exp(margins))
    start = 0
    for k, size in enumerate(CLASS_SIZES):
        part = slice(start, start := start + size)
        assert seen["class_gradient"][k] == pytest.approx(g[part].sum(), rel=1e-13)
        assert seen["class_loss"][k] == pytest.approx(np.log1p(np.exp(-margins[part])).mean())
    assert seen["loss"] == pytest.approx(np.dot(seen["class_loss"], CLASS_SIZES) / len(labels))
    assert seen["loss"] == pytest.approx(ref.loss(*problem), rel=1e-14)
    assert seen["min_margin"] == margins.min()
    words = np.eye(w_v.shape[1])
    for i in range(3):
        assert seen["response"][i] == pytest.approx(a @ w @ w_v @ words[i])
        for j in range(3):
            score = words[i] @ w_k.T @ w_q @ words[j]
            correlation = words[i] @ w_v.T @ w_v @ words[j]
            assert seen["attention_score"][i, j] == pytest.approx(score)
            assert seen["value_correlation"][i, j] == pytest.approx(correlation)
    assert seen["grad_norm"] ** 2 == pytest.approx(
        sum((x**2).sum() for x in ref.gradient(*problem))
    )


def test_classes_come_from_the_tokens_and_an_empty_class_has_no_loss(problem: Problem) -> None:
    weights, a, tokens, labels = problem
    assert np.array_equal(ref.classes(tokens), np.repeat(np.arange(4), CLASS_SIZES))
    keep = ref.classes(tokens) != 2
    seen = ref.observables(weights, a, tokens[keep], labels[keep])
    assert np.array_equal(np.isnan(seen["class_loss"]), [False, False, True, False])
    assert seen["class_gradient"][2] == 0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_margins_and_logits_of_a_thousand_are_safe(problem: Problem, sign: float) -> None:
    weights, a, tokens, labels = problem
    outputs = ref.predict(weights, a, tokens)
    large = weights._replace(
        w=weights.w * sign * 4e3 / np.abs(outputs).max(), w_k=weights.w_k * 1e5
    )
    margins = labels * ref.predict(large, a, tokens)
    assert np.abs(margins).max() > 1e3
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        seen = ref.observables(large, a, tokens, labels)
    assert all(np.isfinite(value).all() for value in seen.values())
    assert seen["loss"] == pytest.approx(np.maximum(0, -margins).mean(), rel=1e-2)
    assert ref.logistic(np.array([-1e3, 1e3, 40.0])) == pytest.approx(
        [1e3, 0, np.exp(-40)], rel=1e-13
    )


def test_flow_conserves_the_balances_and_its_energy(problem: Problem) -> None:
    weights, *rest = problem
    panels = ((0.0, 1.0), (1.0, 4.0))  # the loss falls steeply at first
    times = np.concatenate([start + (end - start) * (NODES + 1) / 2 for start, end in panels])
    quadrature = np.concatenate([(end - start) / 2 * NODE_WEIGHTS for start, end in panels])
    times = np.append(times, panels[-1][1])
    states = ref.solve(weights, *rest, times=times)
    for w, w_v, w_k, w_q in states:
        mlp = w.T @ w - w_v @ w_v.T - (weights.w.T @ weights.w - weights.w_v @ weights.w_v.T)
        start = weights.w_k @ weights.w_k.T - weights.w_q @ weights.w_q.T
        attention = w_k @ w_k.T - w_q @ w_q.T - start
        assert np.abs(mlp).max() < 1e-9
        assert np.abs(attention).max() < 1e-9
    squares = [ref.observables(state, *rest)["grad_norm"] ** 2 for state in states[:-1]]
    spent = np.dot(quadrature, squares)
    fallen = ref.loss(weights, *rest) - ref.loss(states[-1], *rest)
    assert fallen > 0.1
    assert spent == pytest.approx(fallen, rel=1e-10)


def test_solve_agrees_with_another_method_and_tighter_tolerances(problem: Problem) -> None:
    weights, *rest = problem
    times = [0.0, 0.3, 1.0]
    loose = ref.solve(weights, *rest, times=times)
    tight = ref.solve(weights, *rest, times=times, rtol=1e-13, atol=1e-15)
    other = ref.solve(weights, *rest, times=times, rtol=1e-10, atol=1e-12, method="LSODA")
    assert np.array_equal(ref.pack(loose[0]), ref.pack(weights))
    for x, y, z in zip(loose[1:], tight[1:], other[1:], strict=True):
        assert np.linalg.norm(ref.pack(x) - ref.pack(y)) < 1e-9
        assert np.linalg.norm(ref.pack(z) - ref.pack(y)) < 1e-7


def test_quadratic_flow_satisfies_its_equation() -> None:
    rng = np.random.default_rng(1)
    eigenvalues = np.array([0.0, 1e-3, 1.0, 10.0, -0.1])
    rotation = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    theta0, minimum = rng.standard_normal((2, 5))
    hessian = rotation @ np.diag(eigenvalues) @ rotation.T

    def flow(times: Array | list[float]) -> Array:
        return ref.quadratic_flow(eigenvalues, rotation, theta0, minimum, times)

    start, end = flow([0.0, 2.0])
    moved = integral(lambda times: -(flow(times) - minimum) @ hessian, 0.0, 2.0)
    assert start == pytest.approx(theta0, rel=1e-13, abs=1e-13)
    assert end - start == pytest.approx(moved, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("flow", "field", "starts"),
    [
        (ref.logistic_scalar_flow, lambda x: 1 / (1 + np.exp(x)), (-30.0, -2.0, 0.0, 1.0, 8.0)),
        (ref.scalar_quartic_flow, lambda x: -(x**3), (-1.5, 0.0, 0.3, 2.0)),
    ],
)
def test_scalar_flows_satisfy_their_equations(
    flow: Callable[[float, object], Array],
    field: Callable[[Array], Array],
    starts: tuple[float, ...],
) -> None:
    for theta0 in starts:
        assert flow(theta0, 0.0) == pytest.approx(theta0, rel=1e-14, abs=1e-14)
        for start, end in ((0.0, 0.5), (0.5, 1.0), (1.0, 10.0), (100.0, 1000.0), (1e6, 1e7)):
            moved = integral(lambda times, x=theta0: field(flow(x, times)), start, end)
            difference = flow(theta0, end) - flow(theta0, start)
            assert difference == pytest.approx(moved, rel=1e-12, abs=1e-13)


def test_logistic_flow_is_accurate_to_rounding() -> None:
    times = np.concatenate([[0.0], np.logspace(-12, 15, 200)])
    for theta0 in (-800.0, -40.0, -3.0, -0.5, 0.0, 0.5, 5.0, 39.9):
        theta = ref.logistic_scalar_flow(theta0, times)
        x, x0 = np.longdouble(theta), np.longdouble(theta0)
        residual = (x - x0) + (np.exp(x) - np.exp(x0)) - np.longdouble(times)
        error = np.abs(residual / (1 + np.exp(x)))
        assert np.all(error < 1e-15 * np.maximum(1, np.maximum(np.abs(theta), abs(theta0))))
    assert ref.logistic_scalar_flow(0.0, 0.0) == 0.0
    assert ref.logistic_scalar_flow(800.0, 1e6) == 800.0
    below, above = (
        ref.logistic_scalar_flow(np.nextafter(40, 0), 1e18),
        ref.logistic_scalar_flow(40, 1e18),
    )
    assert below == pytest.approx(float(above), rel=1e-15)
