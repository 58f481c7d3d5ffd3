"""The sharpness along a flow: the largest eigenvalue of the Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse.linalg import LinearOperator, eigsh

import gradflow as gf

from .case import Case, flat, observed_flat, unflat


class Profile(NamedTuple):
    """The sharpness along one run.

    Attributes:
        times: shape ``(n,)``, from 0 to t1.
        sharpness: at these times, shape ``(n,)``.
        size: the number of parameters.
    """

    times: np.ndarray
    sharpness: np.ndarray
    size: int

    @property
    def integral(self) -> float:
        """Lambda, the integral of the sharpness over the run, by trapezia."""
        return float(np.trapezoid(self.sharpness, self.times))


def sharpness(problem: gf.Problem) -> Callable[[np.ndarray], float]:
    """The largest eigenvalue of the Hessian at a state, by ARPACK on Hessian-vector products.

    Args:
        problem: whose Hessian.

    Returns:
        A function of a state as one vector, shape ``(size,)``. Each call starts from the
        eigenvector of the one before, and agrees with the dense Hessian's to 1e-4.
    """

    def loss(vector: Array, data) -> Float[Array, ""]:
        return problem.loss(unflat(problem, vector), data)

    @jax.jit
    def product(at: Array, direction: Array, data) -> Array:
        return jax.jvp(lambda x: jax.grad(loss)(x, data), (at,), (direction,))[1]

    # Any start will do that is not orthogonal to the eigenvector.
    last = np.random.default_rng(0).normal(size=problem.size).astype(problem.dtype)

    def top(state: np.ndarray) -> float:
        nonlocal last
        at = jnp.asarray(state, problem.dtype)
        hessian = LinearOperator(
            (problem.size, problem.size),
            lambda x: np.asarray(product(at, x.ravel().astype(problem.dtype), problem.data)),
            dtype=problem.dtype,
        )
        values, vectors = eigsh(hessian, 1, which="LA", v0=last, tol=1e-4)
        last = vectors[:, 0]
        return float(values[0])

    return top


def profile(case: Case, seed: int = 0, count: int = 30) -> Profile:
    """The sharpness along the flow of a case, at time 0 and `count` times even in log t.

    The flow is solved at rtol 1e-3; large problems in float32.

    Raises:
        RuntimeError: the solve failed.
    """
    problem = case.build(seed, "float32" if "large" in case.tags else None)
    times = np.array([0.0, *np.geomspace(1e-4 * case.t1, case.t1, count)[:-1], case.t1])
    flow = gf.solve(
        problem,
        t1=case.t1,
        rtol=1e-3,
        save=gf.Explicit(times=times.tolist()),
        observables={"flat": observed_flat},
        max_steps=1_000_000,
    )
    if flow.result != "end_time":
        raise RuntimeError(f"the flow of {case.name} failed: {gf.RESULTS[flow.result]}")
    top = sharpness(problem)
    values = np.array([top(state) for state in flow["flat"]])
    return Profile(times, values, flat(problem.params).size)
