"""The exact flow of a test problem, as closely as it can be had, and the error of others.

A reference is the closed form where there is one, and else a solve far tighter than what is
measured against it, kept on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import solve_ivp

import gradflow as gf

from .case import Case, flat, observed_flat, unflat

_RTOL = 1e-11
# A million parameters at 1e-11 would take hours, and nothing that is measured on them needs it.
_LARGE_RTOL = 1e-7
_PACKAGES = ("diffrax", "equinox", "jax", "jaxlib", "numpy", "scipy")


class Error(NamedTuple):
    """The error of a trajectory relative to the distance travelled.

    Attributes:
        final: at the last time.
        worst: the largest of all times.
    """

    final: float
    worst: float


def errors(found: ArrayLike, exact: ArrayLike, start: ArrayLike) -> np.ndarray:
    """|found - exact|_2 / |exact - start|_2 at each time, shape ``(n,)``.

    Args:
        found: states of a run, shape ``(n, size)``.
        exact: the reference at the same times, shape ``(n, size)``.
        start: the initial state, shape ``(size,)``; the times must lie after it.

    Raises:
        ValueError: the shapes differ, as after a run that ended early, or a row of `exact` is
            the start itself.
    """
    found, exact, start = (np.asarray(x, dtype=float) for x in (found, exact, start))
    if found.shape != exact.shape or exact.shape[1:] != start.shape:
        raise ValueError(
            f"states of shape {found.shape} against a reference of {exact.shape} and a start of "
            f"{start.shape}; they must be (n, size), (n, size) and (size,): cut the reference "
            "to the times that the run reached"
        )
    travelled = np.linalg.norm(exact - start, axis=1)
    if not travelled.all():
        raise ValueError(
            f"the reference is at its start in row {int(np.argmin(travelled))}, where no error "
            "can be relative to the distance travelled; leave time 0 out"
        )
    return np.linalg.norm(found - exact, axis=1) / travelled


def error(found: ArrayLike, exact: ArrayLike, start: ArrayLike) -> Error:
    """`errors` at the end and at the worst time."""
    each = errors(found, exact, start)
    return Error(float(each[-1]), float(each.max()))


def reference(case: Case, seed: int, times: ArrayLike, directory: Path | None = None) -> np.ndarray:
    """The exact parameters of a case at `times`, as rows like those of `flat`.

    Args:
        case: the test problem.
        seed: of which draw.
        times: ascending, from 0 on, shape ``(n,)``.
        directory: where solves are kept, `cache_directory()` unless given.

    Returns:
        float64 array of shape ``(n, size)``.

    Raises:
        ValueError: JAX has float64 disabled.
        RuntimeError: the solve failed.
    """
    if case.closed_form is not None:
        return case.closed_form(seed, times)
    times = np.asarray(times, dtype=float)
    solver, rtol = ("tsit5", _LARGE_RTOL) if "large" in case.tags else ("dopri8", _RTOL)
    problem = case.build(seed, "float64")
    facts = {
        "problem": _fingerprint(problem),
        "times": times.tolist(),
        "solver": solver,
        "rtol": rtol,
        "versions": {name: version(name) for name in _PACKAGES},
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    path = (directory or cache_directory()) / f"{case.name}-{seed}-{key}.npz"
    if path.exists():
        with np.load(path) as stored:
            return stored["states"]
    states = by_gradflow(problem, times, solver=solver, rtol=rtol)
    _write(path, times=times, states=states)
    return states


def cache_directory() -> Path:
    """``$XDG_CACHE_HOME/gradflow/references``, ``~/.cache`` standing in for an unset variable."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gradflow/references")


def by_gradflow(
    problem: gf.Problem, times: ArrayLike, *, solver: str = "dopri8", rtol: float = _RTOL
) -> np.ndarray:
    """The flow at `times` by gradflow's explicit methods, shape ``(n, size)``.

    Raises:
        RuntimeError: it did not reach the last time.
    """
    times = np.asarray(times, dtype=float)
    flow = gf.solve(
        problem,
        t1=float(times[-1]),
        rtol=rtol,
        solver=solver,
        save=gf.Explicit(times=times.tolist()),
        observables={"flat": observed_flat},
        max_steps=10_000_000,
    )
    if flow.result != "end_time":
        raise RuntimeError(f"the reference solve failed: {gf.RESULTS[flow.result]}")
    return flow["flat"]


def by_scipy(
    problem: gf.Problem, times: ArrayLike, *, method: str = "LSODA", rtol: float = _RTOL
) -> np.ndarray:
    """The flow at `times` by SciPy, with the whole Hessian where the method is implicit.

    A second opinion: of gradflow only the gradient is used. Tolerances hold for single entries,
    the absolute one a hundredth of the relative one.

    Args:
        problem: in float64, of a size whose Hessian is affordable unless `method` is explicit.
        times: ascending, from 0 on, shape ``(n,)``.
        method: of `scipy.integrate.solve_ivp`.
        rtol: relative tolerance.

    Returns:
        The states, shape ``(n, size)``.

    Raises:
        RuntimeError: it did not reach the last time.
    """
    times = np.asarray(times, dtype=float)
    slope, jacobian = _host_functions(problem)
    implicit = {} if method in ("RK23", "RK45", "DOP853") else {"jac": jacobian}
    solution = solve_ivp(
        slope,
        (0.0, times[-1]),
        np.asarray(flat(problem.params)),
        method,
        times,
        rtol=rtol,
        atol=1e-2 * rtol,
        **implicit,
    )
    if not solution.success:
        raise RuntimeError(f"SciPy's {method} failed: {solution.message}")
    return solution.y.T


def _host_functions(
    problem: gf.Problem,
) -> tuple[
    Callable[[float, np.ndarray], np.ndarray],
    Callable[[float, np.ndarray], np.ndarray],
]:
    """Minus the gradient, and minus the Hessian, of NumPy vectors."""

    def loss(vector, data):
        return problem.loss(unflat(problem, vector), data)

    gradient, hessian = jax.jit(jax.grad(loss)), jax.jit(jax.hessian(loss))
    return (
        lambda _, vector: -np.asarray(gradient(vector, problem.data)),
        lambda _, vector: -np.asarray(hessian(vector, problem.data)),
    )


def _fingerprint(problem: gf.Problem) -> str:
    """A hash of where a problem starts, what it sees, and its loss and slope there.

    The last two stand for the loss function; their digits are cut to those which do not depend
    on the machine.
    """
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((problem.params, problem.data)):
        digest.update(np.asarray(leaf).tobytes())
    loss, gradient = jax.jit(jax.value_and_grad(problem.loss))(problem.params, problem.data)
    slope = np.linalg.norm(np.asarray(flat(gradient)))
    digest.update(f"{float(loss):.7e} {slope:.7e}".encode())
    return digest.hexdigest()


def _write(path: Path, **arrays: np.ndarray) -> None:
    """The file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".npz")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
