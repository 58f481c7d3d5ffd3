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

from .case import Case, unflat
from .reference import by_gradflow, reference


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


def profile(case: Case, seed: int = 0) -> Profile:
    """The sharpness along the flow of a case.

    It is that of the reference at the case's own times. A large case is solved for this alone, at
    more times, in float32 and at rtol 1e-3.

    Raises:
        RuntimeError: the solve failed.
    """
    if "large" in case.tags:
        times = case.times(30)
        problem = case.build(seed, "float32")
        states = by_gradflow(problem, times, solver="auto", rtol=1e-3)
    else:
        times = case.times()
        problem = case.build(seed)
        states = reference(case, seed, times)
    top = sharpness(problem)
    return Profile(times, np.array([top(state) for state in states]), problem.size)
