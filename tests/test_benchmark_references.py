"""References of the test problems, their errors and sharpness, and the table that says so."""

import re
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import gradflow as gf
from benchmarks.problems import PROBLEMS, deep_linear, flat, unflat
from benchmarks.problems.__main__ import main
from benchmarks.problems.reference import by_gradflow, by_scipy, error, errors, reference
from benchmarks.problems.sharpness import profile, sharpness

README = Path(__file__).parent.parent / "benchmarks/problems/README.md"


def start(problem):
    return np.asarray(flat(problem.params))


def test_errors_are_relative_to_the_distance_travelled():
    exact = np.array([[3.0, 4.0], [6.0, 8.0]])
    found = exact + np.array([[0.0, 0.5], [0.0, 0.2]])
    begun = np.zeros(2)
    assert errors(found, exact, begun) == pytest.approx([0.1, 0.02])
    assert error(found, exact, begun) == pytest.approx((0.02, 0.1))
    with pytest.raises(ValueError, match=r"states of shape \(1, 2\) against a reference of \(2, 2"):
        errors(found[:1], exact, begun)
    with pytest.raises(ValueError, match="row 1"):
        errors(found, exact, exact[1])


def test_references_agree_and_are_kept(tmp_path, monkeypatch):
    case = PROBLEMS["linear2"]
    assert case.closed_form is not None
    solved = replace(case, closed_form=None)
    times = case.times(8)
    exact = case.closed_form(0, times)
    found = reference(solved, 0, times, tmp_path)
    begun = exact[0]
    assert error(found[1:], exact[1:], begun).worst <= 1e-9
    assert [path.name.startswith("linear2-0-") for path in tmp_path.iterdir()] == [True]

    def fails(*_, **__):
        raise AssertionError("solved again")

    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.problems.reference.by_gradflow", fails)
        assert np.array_equal(reference(solved, 0, times, tmp_path), found)
        assert np.array_equal(reference(case, 0, times), exact)
        for other in (
            replace(solved, make=PROBLEMS["linear4"].make),
            replace(solved, make=lambda seed: halved(case.make(seed))),
        ):
            with pytest.raises(AssertionError, match="solved again"):
                reference(other, 0, times, tmp_path)
        for seed, when in ((1, times), (0, times[:-1])):
            with pytest.raises(AssertionError, match="solved again"):
                reference(solved, seed, when, tmp_path)


def halved(problem):
    """The same start and data, another loss."""
    return gf.Problem(lambda w, d: deep_linear.loss(w, d) / 2, problem.params, problem.data)


@pytest.mark.parametrize(("name", "t1", "method"), [("hi", 0.3, "DOP853"), ("ode", 3.0, "LSODA")])
def test_references_by_independent_codes(name, t1, method):
    """gradflow and SciPy at one end time; of SciPy the tolerance holds for single entries."""
    problem = PROBLEMS[name].build(1)
    ends = by_gradflow(problem, [0.0, t1]), by_scipy(problem, [0.0, t1], method=method)
    assert error(ends[1][1:], ends[0][1:], start(problem)).final <= 1e-9


def test_the_cache_is_where_it_is_said_to_be(tmp_path, monkeypatch):
    case = replace(PROBLEMS["linear2"], closed_form=None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reference(case, 0, [0.0, 0.1])
    assert len(list((tmp_path / "gradflow/references").glob("linear2-0-*.npz"))) == 1


# Sharpness


def test_sharpness_against_the_dense_hessian():
    problem = PROBLEMS["hi"].build(0)
    top = sharpness(problem)
    for scale in (1.0, 1.1):
        at = scale * start(problem)
        hessian = jax.jit(
            jax.hessian(lambda v, problem=problem: problem.loss(unflat(problem, v), problem.data))
        )(at)
        assert top(at) == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-4)


def test_the_sharpness_of_hi_is_as_documented():
    """From tens to several hundreds, of which most is there after a sixteenth of the run.

    The rest takes Tsit5 another 150,000 gradients: the table's last figure is left to the command.
    """
    problem = PROBLEMS["hi"].build(0)
    top = sharpness(problem)
    begun, largest, end = table()["hi"]["sharpness"]
    assert top(start(problem)) == pytest.approx(begun, rel=0.01)
    assert largest / begun > 20
    early, late = by_gradflow(problem, [3.0, 6.25], solver="tsit5", rtol=1e-5)
    assert 0.6 * end <= top(early) <= 0.8 * end
    assert 0.8 * end <= top(late) <= end


def test_the_profile_of_a_quadratic():
    found = profile(PROBLEMS["quadratic-mild"])
    assert np.allclose(found.sharpness, 10.0, rtol=1e-4)
    assert found.integral == pytest.approx(100.0, rel=1e-4)


# The table


def number(text):
    return float(text.replace(",", ""))


def table():
    """The README's table: for each name its parameters, t1, sharpness and Lambda."""
    pattern = r"^\| ([\w-]+) \| 0 \| ([\d,]+) \| (\d+) \| ([^|]+) \| ([\d,]+) \| \w"
    rows = re.findall(pattern, README.read_text(), re.MULTILINE)
    return {
        name: {
            "size": number(size),
            "t1": float(t1),
            "sharpness": [number(each) for each in sharp.split(";")],
            "integral": number(integral),
        }
        for name, size, t1, sharp, integral in rows
    }


def test_the_table_holds_every_problem():
    rows = table()
    assert list(rows) == list(PROBLEMS)
    for name, case in PROBLEMS.items():
        assert rows[name]["size"] == case.build(0).size
        assert rows[name]["t1"] == case.t1
        # Where explicit methods are limited by stability there is much to integrate.
        assert ("stiff" in case.tags) == (rows[name]["integral"] > 2e3)


def test_the_table_is_what_the_command_prints(capsys):
    main(["quadratic-mild"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] in README.read_text()
    assert printed[0] in README.read_text()
    with pytest.raises(SystemExit):
        main(["hy"])
    assert "no test problem hy; there are quadratic-mild" in capsys.readouterr().err
