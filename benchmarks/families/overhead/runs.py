"""A few attempted steps of a solver, and the bare gradient."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

import gradflow as gf
from benchmarks.methods import RunFailedError
from benchmarks.methods.by_diffrax import descent_field, explicit_evaluations

RTOL = 2e-4
_OUTSIDE = 3  # evaluations before the first step is timed and after the last

# Seconds for one gradient.
Run = Callable[[], float]


def bare(problem: gf.Problem, least: float) -> Run:
    """The jitted gradient, called for at least so many seconds."""
    gradient = jax.jit(jax.grad(problem.loss))

    def call(times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            result = gradient(problem.params, problem.data)
        jax.block_until_ready(result)
        return (time.perf_counter() - began) / times

    call(1)
    times = max(int(least / call(3)), 3)
    return partial(call, times)


def solving(problem: gf.Problem, solver: str, attempts: int, save: gf.SaveTimes, t1: float) -> Run:
    """`gradflow.solve`, ended after so many attempted steps if `t1` is not reached before.

    Seconds are those of the steps alone: what a call takes once is no matter of its gradients.
    """

    def run() -> float:
        flow = gf.solve(problem, t1=t1, rtol=RTOL, solver=solver, save=save, max_steps=attempts)
        if flow.result not in ("step_limit", "end_time"):
            raise RunFailedError(gf.RESULTS[flow.result])
        return flow.stats["wall_seconds"] / (flow.stats["gradient_evaluations"] - _OUTSIDE)

    return run


@eqx.filter_jit
def _integrate(
    method: diffrax.AbstractSolver, problem: gf.Problem, t1: Array, attempts: int
) -> diffrax.Solution:
    return diffrax.diffeqsolve(
        diffrax.ODETerm(descent_field(problem)),
        method,
        jnp.zeros_like(t1),
        t1,
        None,
        problem.params,
        args=problem.data,
        stepsize_controller=diffrax.PIDController(rtol=RTOL, atol=RTOL),
        max_steps=attempts,
        throw=False,
    )


def by_diffrax(problem: gf.Problem, method: diffrax.AbstractERK, attempts: int, t1: float) -> Run:
    """`diffrax.diffeqsolve` as its documentation has it, for as many attempts."""
    end = jnp.asarray(t1, problem.dtype)

    def run() -> float:
        began = time.perf_counter()
        solution = jax.block_until_ready(_integrate(method, problem, end, attempts))
        seconds = time.perf_counter() - began
        return seconds / explicit_evaluations(method, int(solution.stats["num_steps"]))

    return run


def alternating(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """What each of them says, by turns, after one call that compiles."""
    for run in runs.values():
        run()
    said: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            said[name].append(run())
    return said
