"""Many seeds: one after the other, on threads, and as one compiled program; and the whole run.

``python -m benchmarks.ensemble``. First what `gradflow solve` does with a hundred seeds of
configs/quickstart.yaml, figures and table included, against a hundred solves and against a hundred
such runs of one seed. Then seeds a second, of the flow alone, at that size and at the paper's: what
is compared alternates in one process, after compilation; medians of the rounds, and their ratios
to the loop. Where JAX finds an accelerator that is what is measured, and threads share it.
"""

import statistics
import tempfile
import time
from pathlib import Path

import jax

import gradflow as gf
from gradflow import experiment
from gradflow.config import Config, load

CONFIGS = Path(__file__).parent.parent / "configs"
SEEDS = 100  # of the whole run
# Seeds, sizes of a batch, and rounds.
SIZES = {"quickstart": (64, (4, 16, 64), 5), "cooccurrence": (16, (4, 16), 3)}


def config_of(name: str, *overrides: str) -> Config:
    """A shipped configuration, of the flow alone."""
    alone = ("flow.certify=false", "descent=null")
    return load(CONFIGS / f"{name}.yaml", (*alone, *overrides))


def solve(config: Config, seed: int) -> float:
    """Seconds of one flow."""
    problem = experiment.build(config, seed)
    began = time.perf_counter()
    flow = gf.solve(problem, **arguments(config))
    assert flow.result == "end_time"
    return time.perf_counter() - began


def arguments(config: Config) -> dict:
    return {name: getattr(config.flow, name) for name in type(config.flow).model_fields}


def whole_run(config: Config) -> float:
    """Seconds of all that `gradflow solve` does."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        experiment.run(config, Path(folder) / "run")
        return time.perf_counter() - began


def hundred() -> None:
    one, many = config_of("quickstart"), config_of("quickstart", f"seeds={SEEDS}")
    for config in (one, many):
        whole_run(config)  # compiles
    single = statistics.median(solve(one, seed) for seed in range(SEEDS))
    alone = statistics.median(whole_run(one) for _ in range(3))
    together = statistics.median(whole_run(many) for _ in range(3))
    print(f"{f'{SEEDS} seeds of quickstart, figures and table included':<54}{together:>8.2f} s")
    for name, seconds in (("warm solve", single), ("warm run of one seed", alone)):
        label = f"{SEEDS} times a {name} of {1e3 * seconds:.3g} ms"
        print(f"{label:<54}{SEEDS * seconds:>8.2f} s{together / (SEEDS * seconds):>8.2f}")


def ensembles(name: str, count: int, sizes: tuple[int, ...], rounds: int) -> None:
    config = config_of(name)
    problems = [experiment.build(config, seed) for seed in range(count)]
    seeds, options = range(count), arguments(config)

    def loop():
        for problem in problems:
            gf.solve(problem, **options)

    def ensemble(batching, at_once=None):
        def run():
            ensemble = gf.solve_ensemble(
                problems.__getitem__, seeds, batching=batching, at_once=at_once, **options
            )
            assert not ensemble.failures

        return run

    ways = {"loop": loop, "threads": ensemble("threads")}
    ways |= {f"vmap, {size} at once": ensemble("vmap", size) for size in sizes}
    taken = {way: [] for way in ways}
    for run in ways.values():
        run()  # compiles
    for _ in range(rounds):
        for way, run in ways.items():
            began = time.perf_counter()
            run()
            taken[way].append(time.perf_counter() - began)
    base = statistics.median(taken["loop"])
    print(f"\n{f'{count} seeds of {name}':<34}{'seeds/s':>10}{'time':>8}")
    for way, seconds in taken.items():
        median = statistics.median(seconds)
        print(f"{way:<34}{count / median:>10.3g}{median / base:>8.2f}")


def main():
    jax.config.update("jax_enable_x64", True)
    print(f"on {jax.devices()[0].device_kind}")
    hundred()
    for name, (count, sizes, rounds) in SIZES.items():
        ensembles(name, count, sizes, rounds)


if __name__ == "__main__":
    main()
