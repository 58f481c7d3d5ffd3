"""`solve_ensemble`: the flows of many seeds."""

from __future__ import annotations

import inspect
import operator
import os
import threading
import time as clock
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..flow import FAILURES, RESULTS, solve
from ..problem import Problem
from ..progress import Progress
from ..trajectory import Trajectory
from .record import assemble

if TYPE_CHECKING:
    import xarray

_MOST_LINES = 10


@dataclass(frozen=True)
class Ensemble:
    """The flows of several seeds.

    ``ensemble["loss"]`` is short for ``ensemble.record["loss"]``.

    Attributes:
        members: by seed, every run that began: those that failed, or were cut short, as far as
            they came.
        failures: by seed, why a run failed, or why there is none.
        wall_seconds: what all took together, compilation included.
    """

    members: dict[int, Trajectory]
    failures: dict[int, str]
    wall_seconds: float

    @cached_property
    def record(self) -> Trajectory:
        """All runs as one trajectory, with ``seed`` as the last axis of every variable.

        Raises:
            ValueError: they did not record the same.
        """
        return assemble(self.members, self.wall_seconds)

    @property
    def whole(self) -> dict[int, Trajectory]:
        """The runs that neither failed nor were cut short, by seed."""
        short = (*FAILURES, "cancelled")
        return {seed: run for seed, run in self.members.items() if run.result not in short}

    @property
    def findings(self) -> tuple[str, ...]:
        """Which seeds failed and why, a line each; of very many the first."""
        lines = [f"seed {seed} {reason}" for seed, reason in self.failures.items()]
        if len(lines) > _MOST_LINES:
            lines[_MOST_LINES:] = [f"and {len(lines) - _MOST_LINES} seeds more"]
        return tuple(lines)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.record[name]

    @property
    def time(self) -> np.ndarray:
        """The save times, shape ``(n,)``."""
        return self.record.time

    def to_xarray(self) -> xarray.Dataset:
        """The variables as an `xarray.Dataset` with a dimension ``seed``."""
        return self.record.to_xarray()

    def __repr__(self) -> str:
        return (
            f"Ensemble({len(self.members)} seeds, {len(self.failures)} failed, "
            f"{self.wall_seconds:.3g} s)"
        )


def solve_ensemble(
    build: Callable[[int], Problem],
    seeds: int | Sequence[int],
    *,
    t1: float,
    at_once: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    **options: Any,
) -> Ensemble:
    """Solve the flow of one problem for each seed.

    Compiled once, since data and initial parameters of the same shapes are nothing but other
    values. Seeds run on threads, as many at once as there are processors: on a CPU that is faster
    than one compiled program for all of them, whose every step waits for the seed that needs most
    (``python -m benchmarks.ensemble``).

    Args:
        build: makes the problem of a seed, e.g. ``lambda seed: task.build(jax.random.key(seed))``;
            with the same data for all, ``task.build(jax.random.key(seed), jax.random.key(0))``.
        seeds: all different; or how many, for 0, 1 and so on.
        t1: end time.
        at_once: seeds at once; as many as there are processors unless given.
        progress: called now and then with how far all are, by one thread at a time.
        cancelled: called now and then, from several threads; everything ends when it returns
            true, and is kept.
        **options: all that `gradflow.solve` takes beside these.

    Returns:
        The ensemble. A seed that fails is told of in its ``failures`` and does not lose the
        others.

    Raises:
        ValueError: there is no seed, or one is there twice, or `at_once` is below 1.
        TypeError: `solve` has no such option, or `build` is no function of a seed.
        Exception: what the first seed has raised, if none has come to a run.
    """
    if not callable(build):
        raise TypeError(
            f"build must be a function of a seed, got {build!r}; of a task pass "
            "lambda seed: task.build(jax.random.key(seed))"
        )
    seeds = checked_seeds(seeds)
    if at_once is not None and at_once < 1:
        raise ValueError(f"at_once = {at_once} must be 1 at least; None for all processors")
    inspect.signature(solve).bind(None, t1=t1, **options)

    began = clock.perf_counter()
    runs = _Runs(build, {"t1": t1, **options}, len(seeds), progress, cancelled)
    outcomes = runs.all(seeds, at_once or _processors())
    members, failures = {}, {}
    for seed, outcome in zip(seeds, outcomes, strict=True):
        if isinstance(outcome, Trajectory):
            members[seed] = outcome
            if outcome.result in FAILURES:
                reason = RESULTS[outcome.result]
                failures[seed] = f"failed at t = {outcome.final_time:.6g}: {reason}"
        elif outcome is not None:
            failures[seed] = f"failed with {type(outcome).__name__}: {outcome}"
    if not members:
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
    return Ensemble(members, failures, clock.perf_counter() - began)


def checked_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """The seeds of an ensemble, given as `solve_ensemble` takes them.

    Raises:
        ValueError: there is none, or one is there twice.
        TypeError: one is no whole number.
    """
    every = range(seeds) if isinstance(seeds, int) else seeds
    seeds = tuple(operator.index(seed) for seed in every)
    if not seeds:
        raise ValueError("there are no seeds; give one at least, e.g. range(10)")
    if len(set(seeds)) < len(seeds):
        twice = next(seed for i, seed in enumerate(seeds) if seed in seeds[:i])
        raise ValueError(f"seed {twice} is there twice; all must differ, or it would count twice")
    return seeds


class _Runs:
    """The runs of an ensemble, and how far they are together."""

    def __init__(
        self,
        build: Callable[[int], Problem],
        options: dict[str, Any],
        count: int,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
    ):
        self._build, self._options, self._count = build, options, count
        self._progress, self._cancelled = progress, cancelled
        self._lock, self._compiled, self._ended = threading.Lock(), threading.Event(), False
        self._fractions: dict[int, float] = {}
        self._spent: dict[int, int] = {}
        self._settings = _settings()

    def all(self, seeds: Sequence[int], at_once: int) -> list[Trajectory | Exception | None]:
        """What came of each; ``None`` where all was ended before it began."""
        with ThreadPoolExecutor(min(at_once, len(seeds))) as pool:
            try:
                # One alone at first: what it compiles, the others find.
                futures = [pool.submit(self._run, seeds[0])]
                futures[0].add_done_callback(lambda _: self._compiled.set())
                self._compiled.wait()
                futures += [pool.submit(self._unless_ended, seed) for seed in seeds[1:]]
                return [future.result() for future in futures]
            except BaseException:
                self._ended = True
                pool.shutdown(cancel_futures=True)
                raise

    def _unless_ended(self, seed: int) -> Trajectory | Exception | None:
        return None if self._ends() else self._run(seed)

    def _run(self, seed: int) -> Trajectory | Exception:
        try:
            with _same_settings(self._settings):
                problem = self._build(seed)
                if not isinstance(problem, Problem):
                    raise TypeError(f"build must return a gradflow.Problem, got {problem!r}")
                return solve(
                    problem,
                    **self._options,
                    progress=lambda report: self._tell(seed, report),
                    cancelled=self._ends,
                )
        except Exception as error:
            return error
        finally:
            with self._lock:
                self._fractions[seed] = 1.0

    def _ends(self) -> bool:
        return self._ended or (self._cancelled is not None and self._cancelled())

    def _tell(self, seed: int, report: Progress) -> None:
        self._compiled.set()
        with self._lock:
            self._fractions[seed] = report.fraction
            self._spent[seed] = report.gradient_evaluations
            if self._progress is None:
                return
            done = sum(self._fractions.values())
            self._progress(
                replace(
                    report,
                    fraction=done / self._count,
                    gradient_evaluations=sum(self._spent.values()),
                    seed=seed,
                )
            )


def _processors() -> int:
    """How many this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # only on Linux
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


# What may be set for a thread alone, by a context manager of the same name.
_SETTINGS = ("enable_x64", "default_device", "numpy_dtype_promotion", "numpy_rank_promotion")


def _settings() -> dict[str, Any]:
    return {name: getattr(jax.config, f"jax_{name}") for name in _SETTINGS}


def _same_settings(settings: dict[str, Any]) -> ExitStack:
    """A context in which JAX is set in this thread as it was in another."""
    stack = ExitStack()
    for name, value in _settings().items():
        if value != settings[name]:
            stack.enter_context(getattr(jax, name)(settings[name]))
    return stack
