"""Wall time of `descend` against a bare compiled loop, and of the flow against descent.

``python -m benchmarks.descent``: the paper's transformer, 30,000 steps of 0.01 and the flow to
t = 300, after compilation. What is compared alternates in one process; medians of the rounds, and
their spread.

The first table is per step: a hand-written `lax.fori_loop` over the same gradient; `descend` with
nothing recorded but its ends; with the 200 logarithmic save times of configs/cooccurrence.yaml,
the loss, gradient norm and distance; and with all its observables, whose own evaluation is most
of what they add. The second is of whole runs: the flow, in shares of the descent that records the
same.
"""

import statistics
import time

import jax

import gradflow as gf

ROUNDS = 5
RATE, STEPS = 0.01, 30_000
RTOL = 2e-4


def seconds(run):
    """Wall time of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main():
    jax.config.update("jax_enable_x64", True)
    full = gf.tasks.Cooccurrence().build(jax.random.key(0))
    bare = gf.Problem(full.loss, full.params, full.data)
    gradient = jax.grad(full.loss)

    @jax.jit
    def loop(params, data, rate):
        def step(_, p):
            return jax.tree.map(lambda a, g: a - rate * g, p, gradient(p, data))

        return jax.lax.fori_loop(0, STEPS, step, params)

    def by_hand():
        jax.block_until_ready(loop(full.params, full.data, RATE))

    def descend(problem, save):
        return lambda: gf.descend(problem, learning_rate=RATE, steps=STEPS, save=save)

    def solve(problem, save):
        return lambda: gf.solve(problem, t1=RATE * STEPS, rtol=RTOL, save=save)

    ends = gf.Explicit(times=[0.0, RATE * STEPS])
    shipped = gf.Logarithmic(count=200, start=1e-3)
    rows = {
        "lax.fori_loop by hand": by_hand,
        "descend, ends only": descend(bare, ends),
        "descend, 200 times": descend(bare, shipped),
        "descend, as shipped": descend(full, shipped),
        "solve, ends only": solve(bare, ends),
        "solve, 200 times": solve(bare, shipped),
        "solve, as shipped": solve(full, shipped),
    }
    for run in rows.values():
        run()  # compilation
    taken = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, run in rows.items():
            taken[name].append(seconds(run))
    base = taken["lax.fori_loop by hand"]
    print(f"{'per step':<28}{'median us':>10}{'ratio':>9}{'min':>9}{'max':>9}")
    for name in list(rows)[:4]:
        micro = 1e6 * statistics.median(taken[name]) / STEPS
        print(f"{name:<28}{micro:>10.1f}{ratios(taken[name], base)}")
    print(f"\n{'whole run':<28}{'median s':>10}{'ratio':>9}{'min':>9}{'max':>9}")
    for what in ("ends only", "200 times", "as shipped"):
        flow, descent = taken[f"solve, {what}"], taken[f"descend, {what}"]
        print(f"{f'descend, {what}':<28}{statistics.median(descent):>10.3f}")
        print(f"{f'solve, {what}':<28}{statistics.median(flow):>10.3f}{ratios(flow, descent)}")


def ratios(times, base):
    """The median, the least and the largest ratio of the rounds."""
    found = [a / b for a, b in zip(times, base, strict=True)]
    return "".join(f"{f(found):>9.4f}" for f in (statistics.median, min, max))


if __name__ == "__main__":
    main()
