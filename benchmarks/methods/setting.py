"""One draw of a test problem with everything that solvers are measured against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np
from jaxtyping import Array

import gradflow as gf
from benchmarks.problems import Case, flat, unflat
from benchmarks.problems.reference import Error, error, reference
from benchmarks.problems.sharpness import sharpness


@dataclass(frozen=True)
class Setting:
    """One draw of a test problem, in float64.

    Attributes:
        case: the test problem.
        seed: which draw.
        problem: the draw.
        times: when states are compared, time 0 first, shape ``(n,)``.
        exact: the reference at `times`, shape ``(n, size)``.
        sharpness: along the reference, at `times`, shape ``(n,)``.
    """

    case: Case
    seed: int
    problem: gf.Problem
    times: np.ndarray
    exact: np.ndarray
    sharpness: np.ndarray

    @classmethod
    def of(cls, case: Case, seed: int) -> Setting:
        """The draw with its reference; solves for what is not kept on disk yet."""
        problem = case.build(seed, "float64")
        times = case.times()
        exact = reference(case, seed, times)
        top = sharpness(problem)
        return cls(case, seed, problem, times, exact, np.array([top(state) for state in exact]))

    @property
    def stiffness(self) -> float:
        """Lambda, the integral of the sharpness over the run, by trapezia."""
        return float(np.trapezoid(self.sharpness, self.times))

    @property
    def patience(self) -> int:
        """Gradients after which a run is hopeless; an explicit method takes 2 Lambda or so.

        At a loose tolerance a method that does not bound the whole error may never end.
        """
        if np.isnan(self.stiffness):  # the sharpness is not known
            return 10_000_000
        return int(20 * self.stiffness) + 20_000

    def error(self, states: np.ndarray) -> Error:
        """The error of states at `times`."""
        return error(states[1:], self.exact[1:], self.exact[0])

    @cached_property
    def start(self) -> np.ndarray:
        """The initial state as a vector of NumPy's."""
        return np.asarray(flat(self.problem.params))

    @cached_property
    def gradient(self) -> Callable[[np.ndarray], np.ndarray]:
        """The jitted gradient, of and to vectors of NumPy's."""
        return self._on_the_host(jax.grad(self._loss))

    @cached_property
    def hessian(self) -> Callable[[np.ndarray], np.ndarray]:
        """The jitted dense Hessian of a vector of NumPy's."""
        return self._on_the_host(jax.hessian(self._loss))

    def _loss(self, vector: Array, data) -> Array:
        return self.problem.loss(unflat(self.problem, vector), data)

    def _on_the_host(self, function: Callable) -> Callable[[np.ndarray], np.ndarray]:
        compiled = jax.jit(function)
        return lambda vector: np.asarray(compiled(vector, self.problem.data))
