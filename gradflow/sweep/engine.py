"""Points to workers, a few at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from .cluster import ClusterError, Workers
from .plan import Point
from .point import Status, fail, place, status
from .worker import work

if TYPE_CHECKING:
    from distributed import Client, Future

_PREFIX = "point-"
_GONE = "the scheduler has gone; the same command again goes on from here"
_LOOK = 0.2  # seconds between looks at whether all is to end
_PATIENCE = 600.0  # seconds without a single worker: a queue on a cluster may take a while


def compute(
    points: Sequence[Point],
    directory: Path,
    workers: Workers,
    command: str,
    cancelled: Callable[[], bool],
) -> Iterator[tuple[Point, Status]]:
    """Run points, and tell of each when it has ended.

    The scheduler is never given more than a few, however many there are, and nothing is kept of
    those that have ended but what is on the disk.

    Raises:
        ClusterError: no scheduler answers, or it has gone, or has had no worker for a long time.
    """
    if not points or cancelled():
        return
    from distributed.comm.core import CommClosedError

    with workers.client() as client:
        try:
            yield from _Window(client, directory, command, cancelled).through(points)
        except CommClosedError:
            raise ClusterError(_GONE) from None


@dataclass
class _Window:
    """Those points that the scheduler has."""

    client: Client
    directory: Path
    command: str
    cancelled: Callable[[], bool]

    def __post_init__(self) -> None:
        self._ended: SimpleQueue[Future] = SimpleQueue()
        self._open: dict[str, tuple[Point, Future]] = {}
        self._alive = time.monotonic()

    def through(self, points: Sequence[Point]) -> Iterator[tuple[Point, Status]]:
        """All points, in the order in which they end."""
        waiting = iter(points)
        left = len(points)
        while left and not self.cancelled():
            # One that waited beside another on a worker would be blamed for its death too.
            for _ in range(max(1, self._workers()) - len(self._open)):
                if (point := next(waiting, None)) is None:
                    break
                self._submit(point)
            try:
                future = self._ended.get(timeout=_LOOK)
            except Empty:
                continue
            if (ended := self._take(future)) is not None:
                left -= 1
                yield ended
        self.client.cancel([future for _, future in self._open.values()])

    def _workers(self) -> int:
        """How many there are now."""
        there: Any = self.client.nthreads()
        count = len(there)
        now = time.monotonic()
        if count:
            self._alive = now
        elif now - self._alive > _PATIENCE:
            raise ClusterError(
                f"the scheduler has had no worker for {_PATIENCE:.0f} s; start one with dask worker"
            )
        return count

    def _submit(self, point: Point) -> None:
        path = place(self.directory.absolute(), point.key)
        content = point.config.model_dump(mode="json")
        future = self.client.submit(
            work, content, str(path), self.command, key=f"{_PREFIX}{point.key}", pure=False
        )
        self._open[point.key] = point, future
        future.add_done_callback(self._ended.put)

    def _take(self, future: Future) -> tuple[Point, Status] | None:
        """The point whose future has ended; ``None`` if it is to be run again."""
        if future.status == "cancelled":
            raise ClusterError(_GONE)
        key = str(future.key).removeprefix(_PREFIX)
        point, _ = self._open[key]
        path = place(self.directory, key)
        # What lies on the disk counts: a worker may die with the answer that it had ready.
        ended = status(path)
        if ended == Status() and future.status == "lost":
            future.add_done_callback(self._ended.put)
            return None
        if ended == Status() and (error := future.exception()) is not None:
            # A worker that died under it, again and again, or one that cannot run it at all.
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            if type(error).__name__ == "KilledWorker":
                told = "its process was killed every time that it was run (out of memory?)"
            ended = fail(path, told)
        elif ended == Status():
            ended = future.result()  # a disk elsewhere may be slow to show what is on it
        del self._open[key]
        future.release()
        return point, ended
