"""Wall time per gradient evaluation in `solve`, against the bare jitted gradient in a loop.

``python -m benchmarks.overhead``: the paper's transformer to t = 300, after compilation. What is
compared alternates in one process; medians of the rounds, and their spread.

Rows: the bare gradient, called from Python again and again; the same inside one compiled loop,
which the compiler shortens, for it never has to write the gradient out;
`gradflow.solve` with nothing recorded but its end, and as configs/cooccurrence.yaml has it, 200
save times with all observables and events; and plain diffrax with the same method, tolerance and
controller.
"""

import statistics
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

import gradflow as gf
from gradflow.solvers import DistanceController

ROUNDS = 15
CALLS = 300  # bare gradients in one measurement


def measure(run):
    """Seconds per evaluation of one call, which returns how many it made."""
    began = time.perf_counter()
    evaluations = run()
    return (time.perf_counter() - began) / evaluations


def main():
    jax.config.update("jax_enable_x64", True)
    full = gf.tasks.Cooccurrence().build(jax.random.key(0))
    bare = gf.Problem(full.loss, full.params, full.data)
    gradient = jax.jit(jax.grad(full.loss))

    def python_loop():
        for _ in range(CALLS):
            result = gradient(full.params, full.data)
        jax.block_until_ready(result)
        return CALLS

    @jax.jit
    def repeat(params, data):
        # The result feeds the next call, or the compiler would evaluate it only once.
        def body(_, p):
            return jax.tree.map(lambda a, g: a - 1e-12 * g, p, gradient(p, data))

        return jax.lax.fori_loop(0, CALLS, body, params)

    def compiled_loop():
        jax.block_until_ready(repeat(full.params, full.data))
        return CALLS

    def solve(problem, solver, save):
        def run():
            flow = gf.solve(problem, t1=300.0, rtol=2e-4, solver=solver, save=save)
            return flow.stats["gradient_evaluations"]

        return run

    @eqx.filter_jit
    def plain(method, params, data):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, d: jax.tree.map(jnp.negative, gradient(y, d))),
            method,
            0.0,
            300.0,
            None,
            params,
            args=data,
            stepsize_controller=DistanceController(jnp.asarray(2e-4)),
        )

    def diffrax_own(method):
        stages = method.tableau.num_stages - 1

        def run():
            solution = jax.block_until_ready(plain(method, full.params, full.data))
            return 3 + stages * int(solution.stats["num_steps"])

        return run

    end_only = gf.Explicit(times=[0.0, 300.0])
    as_shipped = gf.Logarithmic(count=200, start=1e-3)
    rows = {
        "bare gradient, Python loop": python_loop,
        "bare gradient, compiled loop": compiled_loop,
        "solve bosh3, end only": solve(bare, "bosh3", end_only),
        "solve tsit5, end only": solve(bare, "tsit5", end_only),
        "solve bosh3, as shipped": solve(full, "bosh3", as_shipped),
        "diffrax Bosh3, end only": diffrax_own(diffrax.Bosh3()),
        "diffrax Tsit5, end only": diffrax_own(diffrax.Tsit5()),
    }
    for run in rows.values():
        run()  # compilation
    seconds = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, run in rows.items():
            seconds[name].append(measure(run))
    base = seconds["bare gradient, Python loop"]
    print(f"{'per gradient evaluation':<32}{'median us':>10}{'ratio':>8}{'min':>7}{'max':>7}")
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, base, strict=True)]
        print(
            f"{name:<32}{1e6 * statistics.median(times):>10.0f}{statistics.median(ratios):>8.2f}"
            f"{min(ratios):>7.2f}{max(ratios):>7.2f}"
        )


if __name__ == "__main__":
    main()
