"""The runs of an ensemble one by one, several at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import jax

from ..flow import solve
from ..problem import Problem
from ..trajectory import Trajectory
from .finished import Done
from .overview import Overview


class Threads:
    """Solves each seed's problem by itself, on one of several threads.

    Args:
        build: makes the problem of a seed.
        options: of `solve`.
        overview: of all runs.
        done: told of every run that is done, and where those under way are kept.
    """

    def __init__(
        self,
        build: Callable[[int], Problem],
        options: dict[str, Any],
        overview: Overview,
        done: Done,
    ):
        self._build, self._options, self._overview, self._done = build, options, overview, done
        self._compiled = threading.Event()
        self._settings = _settings()

    def all(
        self, seeds: Sequence[int], at_once: int | None = None
    ) -> dict[int, Trajectory | Exception]:
        """What came of each, but of those that all was ended before.

        Args:
            seeds: one at least.
            at_once: threads; as many as there are processors unless given.
        """
        with ThreadPoolExecutor(min(at_once or _processors(), len(seeds))) as pool:
            try:
                # One alone at first: what it compiles, the others find.
                futures = [pool.submit(self._run, seeds[0])]
                futures[0].add_done_callback(lambda _: self._compiled.set())
                self._compiled.wait()
                futures += [pool.submit(self._unless_ended, seed) for seed in seeds[1:]]
                outcomes = [future.result() for future in futures]
            except BaseException:
                self._overview.stop()
                pool.shutdown(cancel_futures=True)
                raise
        every = zip(seeds, outcomes, strict=True)
        return {seed: outcome for seed, outcome in every if outcome is not None}

    def _unless_ended(self, seed: int) -> Trajectory | Exception | None:
        return None if self._overview.ends() else self._run(seed)

    def _run(self, seed: int) -> Trajectory | Exception:
        def tell(report):
            self._compiled.set()
            self._overview.tell(seed, report)

        try:
            with _same_settings(self._settings):
                run = solve(
                    self._build(seed),
                    **self._options,
                    checkpoints=self._done.checkpoints(seed),
                    progress=tell,
                    cancelled=self._overview.ends,
                )
                self._done.note(seed, run)
                return run
        except Exception as error:
            return error
        finally:
            self._overview.end(seed)


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
