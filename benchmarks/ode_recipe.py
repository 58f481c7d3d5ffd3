"""Wall time against plain diffrax on MLPGradientFlow.jl's own benchmark, ``scripts/ode.jl``.

``python -m benchmarks.ode_recipe``: a student of 33 parameters on 10,000 inputs to T = 100 and to
T = 1000 (`benchmarks.problems`, ode and ode-long), only the end recorded. The peer is
`diffrax.diffeqsolve` with Tsit5 and PIDController(rtol=1e-6, atol=1e-6), which picks its own first
step. Each of ours runs at the loosest rtol of a ladder at which its error at T,
|theta - reference|_2 / |reference - theta_0|_2, is at most the peer's, or at most what ``--error``
says. All are compiled before; runs alternate in one process, and whole calls are timed until their
result is there. Prints medians, and the ratio to the peer's time with its range over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import gradflow as gf
from benchmarks.problems import PROBLEMS, flat
from benchmarks.problems.reference import reference

CASES = ("ode", "ode-long")
LADDER = (1e-4, 7e-5, 5e-5, 3e-5, 2e-5, 1e-5, 5e-6, 2e-6, 1e-6, 5e-7, 2e-7, 1e-7)
_PEER_RTOL = 1e-6


class Contestant(NamedTuple):
    """A method at a tolerance.

    Attributes:
        name: what the table calls it.
        rtol: its tolerance.
        error: at T.
        gradients: that it takes, a Hessian-vector product counted as two.
        run: does it once more; returns when its result is there.
    """

    name: str
    rtol: float
    error: float
    gradients: int
    run: Callable[[], Any]


@eqx.filter_jit
def _peer(problem: gf.Problem, t1: jax.Array) -> diffrax.Solution:
    def descent(t, params, data):
        return jax.tree.map(jnp.negative, jax.grad(problem.loss)(params, data))

    return diffrax.diffeqsolve(
        diffrax.ODETerm(descent),
        diffrax.Tsit5(),
        0.0,
        t1,
        None,
        problem.params,
        args=problem.data,
        stepsize_controller=diffrax.PIDController(rtol=_PEER_RTOL, atol=_PEER_RTOL),
        max_steps=1_000_000,
    )


def contestants(
    name: str, seed: int, solvers: list[str], error: float | None
) -> tuple[Contestant, ...]:
    """The peer, and each of `solvers` at the loosest tolerance that is accurate enough.

    Args:
        name: of the case.
        seed: of the draw.
        solvers: names as `gradflow.solve` knows them.
        error: what is accurate enough; the peer's own error if ``None``.
    """
    case = PROBLEMS[name]
    problem = case.build(seed, "float64")
    start, end = reference(case, seed, [0.0, case.t1])

    def off(params: Any) -> float:
        return float(np.linalg.norm(flat(params) - end) / np.linalg.norm(end - start))

    def peer() -> diffrax.Solution:
        return jax.block_until_ready(_peer(problem, jnp.asarray(case.t1)))

    solution = peer()
    found = off(jax.tree.map(lambda rows: rows[-1], solution.ys))
    gradients = 1 + 6 * int(solution.stats["num_steps"])
    rows = [Contestant("diffrax Tsit5", _PEER_RTOL, found, gradients, peer)]
    for solver in solvers:
        for rtol in LADDER:
            row = _ours(problem, case.t1, solver, rtol, off)
            if row.error <= (found if error is None else error):
                rows.append(row)
                break
        else:
            print(f"{solver} is not accurate enough at any rtol down to {LADDER[-1]:g}")
    return tuple(rows)


def _ours(
    problem: gf.Problem, t1: float, solver: str, rtol: float, off: Callable[[Any], float]
) -> Contestant:
    def run() -> gf.Trajectory:
        save = gf.Explicit(times=[0.0, t1])
        return gf.solve(problem, t1=t1, rtol=rtol, solver=solver, save=save, max_steps=1_000_000)

    flow = run()
    gradients = flow.stats["gradient_evaluations"]
    return Contestant(f"gradflow {solver}", rtol, off(flow.final_params), gradients, run)


def seconds(rows: tuple[Contestant, ...], rounds: int) -> list[list[float]]:
    """What each takes in every round."""
    took = [[] for _ in rows]
    for _ in range(rounds):
        for row, times in zip(rows, took, strict=True):
            began = time.perf_counter()
            row.run()
            times.append(time.perf_counter() - began)
    return took


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ode_recipe", description=__doc__)
    add = parser.add_argument
    add("--cases", nargs="+", choices=CASES, default=CASES)
    add("--seeds", type=int, nargs="+", default=[0])
    add("--solvers", nargs="+", default=["auto", "kvaerno5-cg"], help="of gradflow")
    add("--error", type=float, help="what is accurate enough; default: the peer's error")
    add("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(
        f"{'case, seed':<14}{'method':<24}{'rtol':>8}{'error':>10}{'gradients':>11}{'seconds':>9}"
        f"{'ratio':>7}  range"
    )
    for name in options.cases:
        for seed in options.seeds:
            rows = contestants(name, seed, options.solvers, options.error)
            took = seconds(rows, options.rounds)
            for row, times in zip(rows, took, strict=True):
                ratios = [a / b for a, b in zip(times, took[0], strict=True)]
                print(
                    f"{name + f', {seed}':<14}{row.name:<24}{row.rtol:>8.0e}{row.error:>10.1e}"
                    f"{row.gradients:>11,}{statistics.median(times):>9.2f}"
                    f"{statistics.median(ratios):>7.2f}  {min(ratios):.2f} to {max(ratios):.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
