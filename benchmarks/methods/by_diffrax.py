"""diffrax as its documentation has it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

import gradflow as gf
from benchmarks.problems import flat
from gradflow.solvers import CountedField, Counter

from .method import DECADES, DENSE, WARMING, Method, Run, RunFailedError
from .setting import Setting


def descent_field(problem: gf.Problem) -> Callable[[Any, PyTree, PyTree], PyTree]:
    gradient = jax.grad(problem.loss)
    return lambda t, y, data: jax.tree.map(jnp.negative, gradient(y, data))


@eqx.filter_jit
def _integrate(
    method: diffrax.AbstractSolver,
    problem: gf.Problem,
    t1: Array,
    times: Array,
    rtol: Array,
    atol: Array,
    most: int,
    counter: Counter | None = None,
) -> diffrax.Solution:
    field = descent_field(problem)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field if counter is None else CountedField(field, counter)),
        method,
        jnp.zeros_like(t1),
        t1,
        None,
        problem.params,
        args=problem.data,
        saveat=diffrax.SaveAt(ts=times, fn=lambda t, y, data: flat(y)),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        max_steps=most,
        throw=False,
    )


def by_diffrax(
    method: diffrax.AbstractSolver, absolute: float = 1.0
) -> Callable[[Setting, float], Run]:
    """diffrax with ``PIDController(rtol, atol)`` and its default norm.

    Args:
        method: diffrax's or anyone's.
        absolute: atol over rtol, which diffrax's documentation has the same.
    """

    counter = Counter()
    counts: dict[tuple[str, int, float], int] = {}

    def run(setting: Setting, rtol: float) -> Run:
        def integrate(share: float, counter: Counter | None = None) -> diffrax.Solution:
            numbers = share * setting.case.t1, share * setting.times, rtol, absolute * rtol
            most = setting.patience // 6  # steps, of about so many gradients
            solution = _integrate(
                method, setting.problem, *map(jnp.asarray, numbers), most, counter
            )
            return jax.block_until_ready(solution)

        integrate(WARMING)
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


_EXPLICIT = {"diffrax Tsit5": diffrax.Tsit5(), "diffrax Dopri8": diffrax.Dopri8()}
METHODS = (
    *(
        Method(name, by_diffrax(method), DECADES, stiff_rungs=DECADES[1::2])
        for name, method in _EXPLICIT.items()
    ),
    Method("diffrax Kvaerno5", by_diffrax(diffrax.Kvaerno5()), DECADES, largest=DENSE),
)
