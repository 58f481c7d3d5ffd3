"""The runs of an ensemble that are done, kept as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx

from .._packing import packed, unpacked
from ..problem import Problem
from ..storage import Checkpoints, Finished
from ..trajectory import Trajectory


class Done:
    """Told by any thread of every run that is done.

    Args:
        build: makes the problem of a seed.
        checkpoints: where the runs are kept; ``None`` for nowhere.
        identity: of the ensemble; see `Checkpoints.begin`.

    Raises:
        OtherRunError: the checkpoints are of another ensemble.
    """

    def __init__(
        self,
        build: Callable[[int], Problem],
        checkpoints: Checkpoints | None,
        identity: Callable[[], dict[str, Any]],
    ):
        self._build, self._checkpoints = build, checkpoints
        self._lock, self._finished = threading.Lock(), Finished()
        state = checkpoints.begin(identity()) if checkpoints is not None else None
        if state is not None:
            self._finished.update(state["seeds"])

    def before(self, seeds: Sequence[int]) -> dict[int, Trajectory]:
        """Those of `seeds` that were done when the ensemble was cut."""
        found = {}
        for seed in seeds:
            if (kept := self._finished.get(str(seed))) is not None:
                problem = self._build(seed)
                params = problem.model(unpacked(kept["params"], problem.params))
                found[seed] = replace(kept["run"], final_params=params)
        return found

    def checkpoints(self, seed: int) -> Checkpoints | None:
        """Where the state of a run under way is kept."""
        return None if self._checkpoints is None else self._checkpoints.child(f"seed-{seed}")

    def note(self, seed: int, run: Trajectory) -> None:
        """A run is done; one that was cut short is not, and goes on from its own state."""
        if self._checkpoints is None or run.result == "cancelled":
            return
        params = packed(eqx.filter(run.final_params, eqx.is_inexact_array))
        own = self.checkpoints(seed)
        with self._lock:
            self._finished[str(seed)] = {"run": run, "params": params}
            # Its own state is given up only once it is kept with the others.
            self._keep(now=own is not None and own.directory.exists())
        if own is not None:
            own.clear()

    def close(self) -> None:
        """Nothing more is done."""
        with self._lock:
            self._keep(now=True)

    def _keep(self, now: bool) -> None:
        if self._checkpoints is not None:
            self._checkpoints.keep(lambda: {"seeds": self._finished}, now=now)
