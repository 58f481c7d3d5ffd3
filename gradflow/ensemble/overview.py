"""How far the runs of an ensemble are together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from ..progress import Progress


class Overview:
    """Told by every run how far it is, and asked by it whether to end; by any thread.

    Args:
        count: of runs.
        progress: told how far all are, by one thread at a time.
        cancelled: says whether to end.

    Attributes:
        wanted: whether anyone is told.
    """

    def __init__(
        self,
        count: int,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
    ):
        self._count, self._progress, self._cancelled = count, progress, cancelled
        self._lock, self._stopped = threading.Lock(), False
        self._fractions: dict[int, float] = {}
        self._spent: dict[int, int] = {}
        self.wanted = progress is not None

    def ends(self) -> bool:
        """Whether all is to end."""
        return self._stopped or (self._cancelled is not None and self._cancelled())

    def stop(self) -> None:
        """All is to end."""
        self._stopped = True

    def end(self, seed: int) -> None:
        """A run has ended, or there is none."""
        with self._lock:
            self._fractions[seed] = 1.0

    def note(self, seed: int, fraction: float, evaluations: int) -> None:
        """A run is so far."""
        with self._lock:
            self._fractions[seed], self._spent[seed] = fraction, evaluations

    def tell(self, seed: int, report: Progress) -> None:
        """A run is so far, and whoever looks on hears of it."""
        with self._lock:
            self._fractions[seed], self._spent[seed] = report.fraction, report.gradient_evaluations
            if self._progress is None:
                return
            self._progress(
                replace(
                    report,
                    fraction=sum(self._fractions.values()) / self._count,
                    gradient_evaluations=sum(self._spent.values()),
                    seed=seed,
                )
            )
