"""What gradflow is measured against: diffrax, SciPy, extensisq, and steps of fixed size.

All record the states at the same times. A peer takes its tolerances as its documentation has
them; each with its own norm, so only errors and costs can be compared, not tolerances.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from extensisq import SSV2stab
from extensisq.sommeijer import nrejct
from jaxtyping import Array, PyTree
from scipy.integrate import BDF, LSODA, OdeSolver, solve_ivp

import gradflow as gf
from benchmarks.problems import flat
from gradflow.solvers import CountedField, Counter

from .ladders import DENSE, Method, Run, RunFailedError
from .setting import Setting

_TIGHT = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
_MOST = 10_000_000  # steps
_WARMING = 1e-9  # the share of a run that is made to have it compiled


def _descent(problem: gf.Problem) -> Callable[[Any, PyTree, PyTree], PyTree]:
    gradient = jax.grad(problem.loss)
    return lambda t, y, data: jax.tree.map(jnp.negative, gradient(y, data))


@eqx.filter_jit
def _integrate(
    method: diffrax.AbstractSolver,
    problem: gf.Problem,
    t1: Array,
    times: Array,
    rtol: Array,
    counter: Counter | None = None,
) -> diffrax.Solution:
    field = _descent(problem)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field if counter is None else CountedField(field, counter)),
        method,
        jnp.zeros_like(t1),
        t1,
        None,
        problem.params,
        args=problem.data,
        saveat=diffrax.SaveAt(ts=times, fn=lambda t, y, data: flat(y)),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol),
        max_steps=_MOST,
        throw=False,
    )


def by_diffrax(method: diffrax.AbstractSolver) -> Callable[[Setting, float], Run]:
    """diffrax with ``PIDController(rtol, atol=rtol)`` and its default norm."""

    counter = Counter()
    counts: dict[tuple[str, int, float], int] = {}

    def run(setting: Setting, rtol: float) -> Run:
        def integrate(share: float, counter: Counter | None = None) -> diffrax.Solution:
            arguments = map(jnp.asarray, (share * setting.case.t1, share * setting.times, rtol))
            return jax.block_until_ready(_integrate(method, setting.problem, *arguments, counter))

        integrate(_WARMING)
        began = time.perf_counter()
        solution = integrate(1.0)
        seconds = time.perf_counter() - began
        if solution.result != diffrax.RESULTS.successful:
            raise RunFailedError(diffrax.RESULTS[solution.result])
        stats = solution.stats
        if isinstance(method, diffrax.AbstractERK):
            evaluations = explicit_evaluations(method, int(stats["num_steps"]))
        else:
            which = (setting.case.name, setting.seed, rtol)
            if which not in counts:
                # Counting calls the host each time: never in a run that is timed.
                before = counter.read()
                integrate(1.0, counter)
                counts[which] = counter.read() - before
            evaluations = counts[which]
        return Run(
            np.asarray(solution.ys),
            evaluations,
            seconds,
            int(stats["num_accepted_steps"]),
            int(stats["num_rejected_steps"]),
        )

    return run


def explicit_evaluations(method: diffrax.AbstractERK, steps: int) -> int:
    """Gradients of a run of diffrax's that attempted so many steps.

    One at the start, for all methods here carry the slope at the end of a step to the next; the
    first step it takes without looking.
    """
    return 1 + (method.tableau.num_stages - 1) * steps


def by_scipy(method: type[OdeSolver], *, hessian: bool) -> Callable[[Setting, float], Run]:
    """`scipy.integrate.solve_ivp` on the jitted gradient of the flattened state.

    The absolute tolerance is a thousandth of the relative one, as by SciPy's defaults.

    Args:
        method: SciPy's or anyone's.
        hessian: whether it is given the dense Hessian, which counts as a Hessian-vector product
            for each parameter.
    """

    def run(setting: Setting, rtol: float) -> Run:
        count = 0

        def slope(t: float, y: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 1
            return -setting.gradient(y)

        def jacobian(t: float, y: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 2 * y.size
            return -setting.hessian(y)

        options = {"jac": jacobian} if hessian else {}
        for function in (slope, *options.values()):
            function(0.0, setting.start)
        count = 0
        began = time.perf_counter()
        solution = solve_ivp(
            slope,
            (0.0, setting.case.t1),
            setting.start,
            method,
            setting.times,
            rtol=rtol,
            atol=1e-3 * rtol,
            **options,
        )
        seconds = time.perf_counter() - began
        if not solution.success:
            raise RunFailedError(solution.message)
        rejected = int(nrejct) if method is SSV2stab else None
        return Run(solution.y.T, count, seconds, rejected=rejected)

    return run


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
        return _descent(problem)(None, y, problem.data)

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

        march(_WARMING)
        began = time.perf_counter()
        states, steps = march(1.0)
        seconds = time.perf_counter() - began
        if not np.isfinite(states).all():
            raise RunFailedError("it diverged")
        return Run(np.asarray(states), stages * int(steps), seconds, int(steps), 0)

    return run


_PEERS = {"diffrax Tsit5": diffrax.Tsit5(), "diffrax Dopri8": diffrax.Dopri8()}
METHODS = (
    *(
        Method(name, by_diffrax(method), _TIGHT, stiff_rungs=_TIGHT[1:5])
        for name, method in _PEERS.items()
    ),
    Method("diffrax Kvaerno5", by_diffrax(diffrax.Kvaerno5()), _TIGHT[:5], largest=DENSE),
    Method("SciPy LSODA", by_scipy(LSODA, hessian=True), _TIGHT, largest=DENSE),
    Method("SciPy BDF", by_scipy(BDF, hessian=True), _TIGHT, largest=DENSE),
    Method("extensisq SSV2stab", by_scipy(SSV2stab, hessian=False), (1e-2, *_TIGHT[:5])),
    Method("gradient descent", in_fixed_steps(_euler, 1), (1.0, 0.5, 0.25)),
    Method("RK4 at 1/sharpness", in_fixed_steps(_rk4, 4), (1.0,)),
)
