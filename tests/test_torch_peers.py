"""The peers in PyTorch solve the problems of the benchmarks; where it is absent they say so."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from benchmarks.methods import (
    METHODS,
    MISSING,
    RunFailedError,
    Setting,
    absence,
    by_scipy,
    by_torch,
)
from benchmarks.methods.peers import gathered
from benchmarks.problems import PROBLEMS, flat, unflat

NAME = "torchdiffeq dopri5"


def test_a_peer_that_is_not_installed_is_named_with_the_way_out():
    told = "no_such_peer is not installed: pip install 'gradflow[bench]'"
    assert absence("jax", "no_such_peer") == told
    assert absence("a_peer", "b_peer").startswith("a_peer and b_peer are not installed")
    absent = SimpleNamespace(METHODS=by_torch.METHODS, NEEDS=("no_such_peer",))
    methods, missing = gathered((by_scipy, absent))
    assert list(methods) == [method.name for method in by_scipy.METHODS]
    assert missing == {NAME: told}


def test_torchdiffeq_is_measured_just_where_it_is_installed():
    installed = absence(*by_torch.NEEDS) == ""
    assert (NAME in METHODS, NAME in MISSING) == (installed, not installed)


@pytest.fixture(scope="module")
def copies():
    pytest.importorskip("torch")
    return pytest.importorskip("benchmarks.methods.torch_copies")


def _agrees(copies, problem, tolerance):
    """Loss and gradient, at a place where no part of either is zero."""
    rng = np.random.default_rng(0)
    start = np.asarray(flat(problem.params))
    vector = start + (0.1 * rng.normal(size=start.shape)).astype(start.dtype)
    value, gradient = jax.jit(jax.value_and_grad(problem.loss))(
        unflat(problem, vector), problem.data
    )
    copy = copies.Copy.of(problem)
    np.testing.assert_array_equal(copy.start().numpy(), start)
    found = copy.gradient(copies.torch.from_numpy(vector)).numpy()
    assert found.dtype == start.dtype
    assert copy.loss().item() == pytest.approx(float(value), rel=tolerance)
    expected = np.asarray(flat(gradient))
    assert np.linalg.norm(found - expected) < tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("name", PROBLEMS)
def test_loss_and_gradient_are_those_of_jax(copies, name):
    _agrees(copies, PROBLEMS[name].build(0, "float64"), 1e-13)


def test_a_copy_has_the_precision_of_its_problem(copies):
    _agrees(copies, PROBLEMS["transformer"].build(0, "float32"), 1e-5)


def test_a_loss_without_a_copy_is_named(copies):
    problem = PROBLEMS["linear2"].build(0)
    other = type(problem)(lambda params, data: params[0].sum(), problem.params)
    with pytest.raises(RunFailedError, match=r"test_torch_peers\.py:\d+ has no copy in Py"):
        copies.Copy.of(other)


def test_torchdiffeq_follows_the_closed_form_and_its_gradients_are_counted(copies, monkeypatch):
    pytest.importorskip("torchdiffeq")
    case = PROBLEMS["quadratic-mild"]
    times = case.times(10)
    problem, exact = case.build(0), case.closed_form(0, times)
    setting = Setting(case, 0, problem, times, exact, np.full(len(times), 10.0))
    called = 0

    def counted(copy, vector):
        nonlocal called
        called += 1
        return gradient(copy, vector)

    gradient = copies.Copy.gradient
    monkeypatch.setattr(copies.Copy, "gradient", counted)
    for rtol in (1e-4, 1e-7):
        called = 0
        run = METHODS[NAME].run(setting, rtol)
        assert setting.error(run.states).worst < 10 * rtol
        assert (run.evaluations - 2) % 6 == 0  # two for the first step, then six in each
        assert 2 <= called - run.evaluations <= 14  # uncounted: a short run before
    monkeypatch.setattr(type(setting), "patience", 20)
    with pytest.raises(RunFailedError, match="more than 20 gradients"):
        METHODS[NAME].run(setting, 1e-7)
