"""Steps of fixed size, as long as stability allows: gradient descent, and Runge-Kutta 4."""

from __future__ import annotations

import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

import gradflow as gf
from benchmarks.problems import flat

from .by_diffrax import descent_field
from .method import WARMING, Method, Run, RunFailedError
from .setting import Setting


def _euler(field: Callable, y: PyTree, h: Array) -> PyTree:
    return _add(y, h, field(y))


def _rk4(field: Callable, y: PyTree, h: Array) -> PyTree:
    a = field(y)
    b = field(_add(y, h / 2, a))
    c = field(_add(y, h / 2, b))
    d = field(_add(y, h, c))
    slope = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, a, b, c, d)
    return _add(y, h, slope)


def _add(y: PyTree, h: Array, slope: PyTree) -> PyTree:
    return jax.tree.map(lambda y, f: y + h * f, y, slope)


@eqx.filter_jit
def _march(
    step: Callable, problem: gf.Problem, times: Array, sharpness: tuple[Array, Array], share: Array
) -> tuple[Array, Array]:
    """The states at `times` and the number of steps of `share` over the sharpness."""

    def field(y: PyTree) -> PyTree:
        return descent_field(problem)(None, y, problem.data)

    def length(t: Array) -> Array:
        return share / jnp.interp(t, *sharpness)

    def reach(carry, goal: Array):
        def short(carry):
            return carry[0] + length(carry[0]) < goal

        def advance(carry):
            t, y, steps = carry
            h = length(t)
            return t + h, step(field, y, h), steps + 1

        t, y, steps = jax.lax.while_loop(short, advance, carry)
        # What is recorded takes part of a step, from which the run does not go on.
        return (t, y, steps), flat(step(field, y, goal - t))

    carry = (jnp.zeros_like(share), problem.params, jnp.zeros((), jnp.int32))
    (_, _, steps), states = jax.lax.scan(reach, carry, times)
    return states, steps + 1  # the last one ends at the end time


def in_fixed_steps(step: Callable, stages: int) -> Callable[[Setting, float], Run]:
    """Steps of a share of 1 / sharpness, the sharpness known beforehand and for nothing."""

    def run(setting: Setting, share: float) -> Run:
        sharpness = tuple(map(jnp.asarray, (setting.times, setting.sharpness)))

        def march(part: float) -> tuple[Array, Array]:
            times = jnp.asarray(part * setting.times)
            found = _march(step, setting.problem, times, sharpness, jnp.asarray(share))
            return jax.block_until_ready(found)

        march(WARMING)
        began = time.perf_counter()
        states, steps = march(1.0)
        seconds = time.perf_counter() - began
        if not np.isfinite(states).all():
            raise RunFailedError("it diverged")
        return Run(np.asarray(states), stages * int(steps), seconds, int(steps), 0)

    return run


METHODS = (
    Method("gradient descent", in_fixed_steps(_euler, 1), (1.0, 0.5, 0.25)),
    Method("RK4 at 1/sharpness", in_fixed_steps(_rk4, 4), (1.0,)),
)
