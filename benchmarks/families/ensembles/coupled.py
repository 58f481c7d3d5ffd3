"""The coupled dynamical system against the transformer's own flow, and at widths beyond memory.

``python -m benchmarks.coupled``: the paper's sizes to t = 300 at the shipped tolerance, after
compilation, alternating in one process; medians of the rounds. Then the coupled system started from
statistics at growing widths, to the same multiple of the time 1/(s1^2 m m1) of phase 1: what it
takes depends on the words that occur, not on the widths.
"""

import statistics
import time

import jax

import gradflow as gf

ROUNDS = 9
WIDTHS = (128, 10**4, 10**6)
PHASES = 2000  # the end, in units of 1 / (s1^2 m m1)


def seconds(problem, t1):
    began = time.perf_counter()
    flow = gf.solve(problem, t1=t1, rtol=2e-4, save=gf.Linear(count=2))
    assert flow.result == "end_time"
    return time.perf_counter() - began, flow.stats["gradient_evaluations"]


def rounds(problems):
    """Median seconds of each, and evaluations: ``{name: (problem, t1)}``."""
    taken = {name: [] for name in problems}
    evaluations = {name: seconds(*of)[1] for name, of in problems.items()}  # compiles
    for _ in range(ROUNDS):
        for name, of in problems.items():
            taken[name].append(seconds(*of)[0])
    return {n: (statistics.median(t), evaluations[n]) for n, t in taken.items()}


def main():
    jax.config.update("jax_enable_x64", True)
    key = jax.random.key(0)
    problems = {
        "transformer": (gf.tasks.Cooccurrence().build(key), 300.0),
        "coupled system": (gf.tasks.Coupled().build(key), 300.0),
    }
    found = rounds(problems)
    base = found["coupled system"][0]
    print(f"{'the paper, to t = 300':<34}{'ms':>8}{'ratio':>8}{'evaluations':>13}")
    for name, (taken, evaluations) in found.items():
        print(f"{name:<34}{1e3 * taken:>8.1f}{taken / base:>8.2f}{evaluations:>13}")

    wide = {}
    for m in WIDTHS:
        task = gf.tasks.Coupled(
            width=m, neurons=m, initialisation="theory", start="statistics", test_samples=60
        )
        scale = 1 / (task.deviation("w") ** 2 * m * m)
        wide[f"m = m1 = {m:,}"] = (task.build(key), PHASES * scale)
    found = rounds(wide)
    base = next(iter(found.values()))[0]
    print(f"\n{f'to {PHASES} / (s1^2 m m1)':<34}{'ms':>8}{'ratio':>8}{'evaluations':>13}")
    for name, (taken, evaluations) in found.items():
        print(f"{name:<34}{1e3 * taken:>8.1f}{taken / base:>8.2f}{evaluations:>13}")


if __name__ == "__main__":
    main()
