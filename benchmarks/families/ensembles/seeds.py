"""Many seeds: one after the other, on threads, and as one compiled program; and the whole run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import gradflow as gf
from benchmarks.suite import Column, Effort, Kind, Table, alternating, ratios
from gradflow import experiment
from gradflow.config import Config, load

_CONFIGS = Path(__file__).parents[3] / "configs"
_LOOP, _THREADS = "loop", "threads"


def config_of(name: str, *overrides: str) -> Config:
    """A shipped configuration, of the flow alone."""
    alone = ("flow.certify=false", "descent=null")
    return load(_CONFIGS / f"{name}.yaml", (*alone, *overrides))


def whole_run(effort: Effort) -> Table:
    """All that `gradflow solve` does with many seeds, figures and table included.

    It is held against so many solves, and against so many such runs of one seed.
    """
    count = effort.pick(100, 20)
    one, many = config_of("quickstart"), config_of("quickstart", f"seeds={count}")
    problem, options = experiment.build(one, 0), _options(one)

    def command(config: Config) -> Callable[[], None]:
        def run() -> None:
            with tempfile.TemporaryDirectory() as folder:
                experiment.run(config, Path(folder) / "run")

        return run

    many_seeds = f"one run of {count} seeds"
    ways = {
        many_seeds: command(many),
        "run of one seed": command(one),
        "solve": lambda: gf.solve(problem, **options),
    }
    effort.say(f"{count} seeds of quickstart, the whole run")
    times = alternating(ways, effort.pick(3, 2))
    table = Table(
        f"{count} seeds of quickstart by the command, figures and table included",
        (Column("what"), Column("seconds", Kind.SECONDS), Column("of all runs", Kind.RATIO)),
        note=f"The last column: the run of {count} seeds over {count} times this one.",
    )
    for way, seconds in times.items():
        all_of_them = seconds if way == many_seeds else [count * each for each in seconds]
        table.add(way, seconds, ratios(times[many_seeds], all_of_them))
    return table


def batches(name: str, count: int, sizes: tuple[int, ...], rounds: int, effort: Effort) -> Table:
    """Seeds a second of the flow alone.

    Args:
        name: of the shipped configuration.
        count: how many seeds.
        sizes: how many of them one compiled program takes at once.
        rounds: by turns.
        effort: whose `say` is told.
    """
    config = config_of(name)
    problems = [experiment.build(config, seed) for seed in range(count)]
    options = _options(config)

    def loop() -> None:
        for problem in problems:
            gf.solve(problem, **options)

    def ensemble(batching: str, at_once: int | None = None) -> Callable[[], None]:
        def run() -> None:
            found = gf.solve_ensemble(
                problems.__getitem__, range(count), batching=batching, at_once=at_once, **options
            )
            if found.failures:
                raise RuntimeError(f"seeds failed: {found.failures}")

        return run

    ways = {_LOOP: loop, _THREADS: ensemble("threads")}
    ways |= {f"vmap, {size} at once": ensemble("vmap", size) for size in sizes}
    effort.say(f"{count} seeds of {name}")
    times = alternating(ways, rounds)
    table = Table(
        f"{count} seeds of {name}, the flow alone",
        (
            Column("way"),
            Column("at once", Kind.COUNT),
            Column("seeds a second", Kind.NUMBER),
            Column("seconds", Kind.SECONDS),
            Column("over the loop", Kind.RATIO),
        ),
    )
    for (way, seconds), size in zip(times.items(), (1, None, *sizes), strict=True):
        rates = [count / each for each in seconds]
        table.add(way, size, rates, seconds, ratios(seconds, times[_LOOP]))
    return table


def _options(config: Config) -> dict:
    return {name: getattr(config.flow, name) for name in type(config.flow).model_fields}
