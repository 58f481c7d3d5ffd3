"""Runs that advance together, as one compiled program."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._linalg import PRECISION
from ..progress import Progress
from ..solvers import batching, stepping
from .plan import array
from .run import FlowRun, Pace


class Lanes:
    """A batch of a fixed size: each of its lanes has a run, or is free.

    All runs are in a leg of the same solver. Whoever comes or goes, nothing is compiled again.

    Args:
        first: the first run, which enters.
        size: the number of lanes.

    Attributes:
        compile_seconds: what the compilation took.
    """

    def __init__(self, first: FlowRun, size: int):
        began = clock.perf_counter()
        self._form = _form(first)
        self._runs: list[FlowRun | None] = [None] * size
        self._pace = Pace()
        with jax.default_matmul_precision(PRECISION):
            self._kept, self._carries = batching.copies(first.kept, first.carry, size)
        self.enter(first)
        self._attempt(0)
        jax.block_until_ready(self._carry(0))
        self.compile_seconds = clock.perf_counter() - began

    def fits(self, run: FlowRun) -> bool:
        """Whether nothing but the values of arrays tells a run from the others."""
        return self._form == _form(run)

    def enter(self, run: FlowRun) -> None:
        """A run that fits takes a free lane."""
        lane = self._runs.index(None)
        self._runs[lane] = run
        one = run.kept, run.carry, array(lane, np.int32)
        self._kept, self._carries = batching.put(one, (self._kept, self._carries))

    def advance(self) -> list[FlowRun]:
        """Go on for a moment.

        Each run spends the time that all of them take.

        Returns:
            The runs that have left: they have ended, or their other solver takes over.
        """
        if not self.runs():
            return []
        tried, before = self._tried, clock.perf_counter()
        self._attempt(self._pace.attempts)
        passed = clock.perf_counter() - before
        self._pace.took(int(np.max(self._tried - tried)), passed)
        outcomes = np.asarray(self._carries.outcome)
        left = []
        for lane, run in self._taken():
            run.spend(passed)
            if run.result is not None or outcomes[lane] != stepping.RUNNING:
                left.append(run)
                self.leave(run)
        return left

    def leave(self, run: FlowRun) -> None:
        """A run goes on from here without the others, or ends."""
        lane = self._runs.index(run)
        run.go_to(self._carry(lane))
        self._runs[lane] = None
        outcome = self._carries.outcome.at[lane].set(stepping.END_TIME)
        self._carries = replace(self._carries, outcome=outcome)

    def runs(self) -> list[FlowRun]:
        """Those in the lanes."""
        return [run for _, run in self._taken()]

    def standings(self) -> dict[FlowRun, tuple[float, int]]:
        """Of each run the share of its save times that lies behind, and gradient evaluations."""
        rows, spent = jax.device_get((self._carries.records[0].filled, self._carries.evaluations))
        return {run: run.standing(int(rows[i]), int(spent[i])) for i, run in self._taken()}

    def progress(self, run: FlowRun) -> Progress:
        """How far one run is."""
        run.go_to(self._carry(self._runs.index(run)))
        return run.progress()

    def _attempt(self, attempts: int) -> None:
        kept = self._kept, array(attempts, np.int32)
        with jax.default_matmul_precision(PRECISION):
            self._carries = jax.block_until_ready(batching.advance_all(kept, self._carries))

    @property
    def _tried(self) -> np.ndarray:
        return np.add(*jax.device_get((self._carries.accepted, self._carries.rejected)))

    def _taken(self) -> Iterator[tuple[int, FlowRun]]:
        return ((lane, run) for lane, run in enumerate(self._runs) if run is not None)

    def _carry(self, lane: int) -> stepping.Carry:
        return batching.get(self._carries, array(lane, np.int32))


def _form(run: FlowRun) -> tuple[Any, ...]:
    """All that a compiled program depends on."""
    dynamic, static = eqx.partition((run.kept, run.carry), eqx.is_array)
    arrays, structure = jax.tree.flatten(dynamic)
    return structure, [(x.shape, x.dtype) for x in arrays], jax.tree.flatten(static)
