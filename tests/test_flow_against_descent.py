"""What the family of that name is made of: its descents, their drift, and its arithmetic."""

import numpy as np
import pytest

from benchmarks.families.flow_against_descent import descents, flows, report
from benchmarks.families.flow_against_descent.drift import Drift, drift, moments, order, rate_for
from benchmarks.families.flow_against_descent.flows import Flow
from benchmarks.families.flow_against_descent.race import Race, race
from benchmarks.methods import RunFailedError, Setting, absence
from benchmarks.problems import Case
from benchmarks.problems.quadratics import _case
from benchmarks.suite import Findings

RATE, T1 = 0.125, 4.0


def _spectrum(rng):
    return np.array([0.25, 0.5, 1.0, 2.0])


@pytest.fixture(scope="module")
def case() -> Case:
    return _case("four", "", _spectrum, T1, "smooth")


@pytest.fixture(scope="module")
def setting(case):
    times = moments(T1, RATE)
    times = np.concatenate([[0.0], times])
    exact = case.closed_form(0, times)
    return Setting(case, 0, case.build(0), times, exact, np.full(len(times), 2.0))


def descended(problem, rate, steps):
    """minimum + R (1 - rate eigenvalues)^steps R^T (start - minimum)."""
    rotation, eigenvalues, minimum = map(np.asarray, problem.data)
    start = np.concatenate([np.asarray(leaf).ravel() for leaf in problem.params.values()])
    return minimum + rotation @ (
        (1 - rate * eigenvalues) ** steps * (rotation.T @ (start - minimum))
    )


WAYS = {
    descents.OPTAX: descents.with_optax,
    descents.LOOP: descents.by_hand,
    descents.TORCH: descents.with_torch,
    descents.OWN: descents.with_gradflow,
}


@pytest.mark.parametrize("name", WAYS)
def test_a_descent_is_where_the_closed_form_is(setting, name):
    if name == descents.TORCH and (reason := absence("torch")):
        pytest.skip(reason)
    run = WAYS[name](setting.problem, RATE)
    for steps in (3, 10):  # each begins at the start again
        expected = descended(setting.problem, RATE, steps)
        np.testing.assert_allclose(run(steps), expected, rtol=1e-12, atol=1e-14)


def test_drift_is_that_of_the_closed_forms(setting):
    problem, at = setting.problem, setting.times[1:]
    last = float(problem.loss(problem.params, problem.data)) * 0.01
    found = drift(setting, RATE / 2, at, last)
    there = np.stack([descended(problem, RATE / 2, round(2 * t / RATE)) for t in at])
    expected = setting.error(np.concatenate([setting.exact[:1], there]))
    assert (found.final, found.worst) == pytest.approx(expected, rel=1e-9)
    assert found.steps == 2 * T1 / RATE


def test_a_rate_is_predicted_by_the_power_law():
    drifts = [Drift(rate, 0, 0.0, 3 * rate**1.5, 0.0, 0.0) for rate in (0.4, 0.02, 0.01)]
    assert order(drifts) == pytest.approx(1.5)
    assert rate_for(drifts, 3e-6) == pytest.approx(1e-4)


def test_every_descent_is_followed_by_every_flow():
    order = []

    def runs(name):
        return lambda: order.append(name) or 1.0

    found = race({"a": runs("a"), "b": runs("b")}, {"f": runs("f"), "g": runs("g")}, 2, len)
    assert "".join(order) == 2 * "afgbfg"
    assert found.flow("f") == [1.0] * 4
    shares = Race({"a": [4.0, 10.0]}, {"f": [[1.0, 2.0, 9.0], [5.0]]}).share("f", "a")
    assert shares == [0.5, 0.5]


def test_the_ladder_ends_at_the_error_or_says_that_there_is_none(setting):
    found = flows.ladder(setting, flows.DIFFRAX, 1e-3, whole=False)
    assert [flow.worst <= 1e-3 for flow in found] == [False] * (len(found) - 1) + [True]
    assert flows.loosest(found, 1e-3) is found[-1]
    np.testing.assert_allclose(found[-1].end, setting.exact[-1], atol=1e-2)
    with pytest.raises(RunFailedError, match="no tolerance of the ladder reaches"):
        flows.ladder(setting, flows.DIFFRAX, 1e-16, whole=False)


@pytest.mark.parametrize("peers", [True, False])
def test_criteria_are_of_what_was_measured(setting, peers):
    names = [descents.OPTAX, descents.LOOP, descents.OWN] + [descents.TORCH] * peers
    took = {descents.OPTAX: [8.0], descents.LOOP: [4.0], descents.OWN: [4.4], descents.TORCH: [9.0]}
    end = setting.exact[-1]
    papers = [Drift(rate, 30_000, 1e-2, 20 * rate, 0.5, T1) for rate in (0.02, 0.01)]
    measured = report.Measured(
        setting,
        papers,
        {flows.OWN: [Flow(1e-3, 100, 1e-5, 5e-5, 0.1, end)]},
        Race({name: took[name] for name in names}, {flows.OWN: [[0.1, 0.1, 0.4]]}),
        dict.fromkeys(names, end),
        {0.02: 2.0, 0.01: 4.0},
        lambda state: 0.5,
        0.5,
    )
    findings = report.report(measured, Findings())
    optax, torch, apart = findings.criteria
    assert (optax.passed, optax.values) == (True, {"seed 0": 0.0125})
    assert torch.passed is (False if peers else None)  # 1/90, or not measured
    assert apart.passed
    predicted = findings.tables[-1]
    # At first order 0.2 at 0.01 is 1e-4 at a two-thousandth of the rate.
    assert predicted.rows[1][1] == pytest.approx(T1 / 5e-6)
    assert predicted.rows[1][2] == pytest.approx(4.0 / 30_000 * T1 / 5e-6)
    assert all(table.markdown() for table in findings.tables)
