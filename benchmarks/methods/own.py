"""gradflow's solvers, as `gradflow.solve` runs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

import gradflow as gf
from benchmarks.problems import observed_flat
from benchmarks.suite import warm
from gradflow.solvers import (
    SOLVERS,
    AbstractSpectralRadius,
    Counter,
    StabilisedRungeKutta,
    UnrolledRungeKutta,
    VectorChord,
    build,
)

from .method import DECADES, DENSE_STAGES, FINE, STABILITY_BOUND, Method, Run, RunFailedError
from .setting import Setting

# Neighbours of what is measured, of the same order and kind.
LEFT_OUT = ("heun", "dopri5", "kvaerno4", "kvaerno5", "kvaerno4-cg")


class _Counted(AbstractSpectralRadius):
    """An estimator that tells `counter` what its estimates cost."""

    inner: AbstractSpectralRadius
    counter: Counter = eqx.field(static=True)

    def init(self, part):
        return self.inner.init(part)

    def estimate(self, point, memory):
        radius, memory, price = self.inner.estimate(point, memory)
        # The method itself adds one, to see what rounding does to the slope.
        jax.debug.callback(lambda price: self.counter.add(price + 1), price)
        return radius, memory, price


class _Uncounted(diffrax.AbstractAdaptiveSolver):
    """A solver that claims to evaluate nothing, so that no call of the host slows it down."""

    inner: Any
    term_structure = diffrax.ODETerm

    @property
    def interpolation_cls(self):
        return self.inner.interpolation_cls

    def evaluations(self, solver_state):
        return jnp.zeros((), jnp.int32)

    def order(self, terms):
        return self.inner.order(terms)

    def error_order(self, terms):
        return self.inner.error_order(terms)

    def func(self, terms, t0, y0, args):
        return self.inner.func(terms, t0, y0, args)

    def init(self, terms, t0, t1, y0, args):
        return self.inner.init(terms, t0, t1, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        return self.inner.step(terms, t0, t1, y0, args, solver_state, made_jump)


def _solve(setting: Setting, rtol: float, solver: str | diffrax.AbstractSolver) -> gf.Trajectory:
    flow = gf.solve(
        setting.problem,
        t1=setting.case.t1,
        rtol=rtol,
        solver=solver,
        save=gf.Explicit(times=setting.times.tolist()),
        observables={"flat": observed_flat},
        max_steps=10_000_000,
    )
    if flow.result != "end_time":
        raise RunFailedError(gf.RESULTS[flow.result])
    return flow


def _run(solver: str):
    def run(setting: Setting, rtol: float) -> Run:
        # The whole call, as of the peers: also what comes before the first step and after the last.
        flow, seconds = warm(lambda: _solve(setting, rtol, solver))
        stats = flow.stats
        return Run(
            flow["flat"],
            stats["gradient_evaluations"],
            seconds,
            stats["accepted"],
            stats["rejected"],
            stats["solver"] if stats["solver"] != solver else "",
        )

    return run


def _dense_run(solver: str):
    counts: dict[tuple[str, int, float], int] = {}

    def run(setting: Setting, rtol: float) -> Run:
        (choice,) = build(solver, rtol)
        uncounted = _Uncounted(choice.solver)
        flow, seconds = warm(lambda: _solve(setting, rtol, uncounted))
        stats = flow.stats
        which = (setting.case.name, setting.seed, rtol)
        if which not in counts:
            counts[which] = _solve(setting, rtol, solver).stats["gradient_evaluations"]
        return Run(
            flow["flat"],
            counts[which],
            seconds,
            stats["accepted"],
            stats["rejected"],
        )

    return run


def _estimator(solver: StabilisedRungeKutta):
    counter = Counter()
    counted = replace(solver, spectral_radius=_Counted(solver.spectral_radius, counter))

    def evaluations(setting: Setting, rtol: float) -> int:
        before = counter.read()
        _solve(setting, rtol, counted)
        return counter.read() - before

    return evaluations


def method(name: str) -> Method:
    """A solver of `gradflow.solvers.SOLVERS` by its name."""
    # Which kind it is does not depend on the tolerance.
    (choice,) = build(name, 1e-3)
    solver, run = choice.solver, _run(name)
    if isinstance(solver, StabilisedRungeKutta):
        return Method(name, run, FINE, estimator=_estimator(solver))
    if isinstance(solver, UnrolledRungeKutta):
        return Method(name, run, FINE, stiff_rungs=STABILITY_BOUND)
    if isinstance(getattr(solver, "root_finder", None), VectorChord):
        return Method(name, _dense_run(name), DECADES[1:5], largest=DENSE_STAGES)
    return Method(name, run, DECADES[1:6])


METHODS = (
    *(method(name) for name in SOLVERS if name not in LEFT_OUT),
    Method("auto", _run("auto"), FINE),
)
