"""A sweep from its plan to its record: what is missing is run, what is there is kept."""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import storage
from ..manifest import end, origin
from ..report import keep, render
from ..trajectory import Trajectory
from .cluster import Workers
from .engine import compute
from .figures import of_sweep
from .page import write_report
from .plan import Plan
from .point import Status, place, status
from .record import collect

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Standing:
    """How far a sweep is.

    Attributes:
        done: points that are there.
        failed: points that have failed.
        left: points that are missing.
        seconds_left: for these, by the pace of those that were run; infinite before the first.

    >>> import gradflow as gf
    >>> standing = gf.sweep.Standing(done=120, failed=3, left=77, seconds_left=150.0)
    >>> print(standing, standing.fraction)
    120 of 200 points done, 3 failed, about 2 min left 0.615
    """

    done: int
    failed: int
    left: int
    seconds_left: float = math.inf

    @classmethod
    def of(cls, known: Mapping[str, Status]) -> Standing:
        """That of points of which it is known how far they are."""
        done = sum(one.done for one in known.values())
        failed = sum(bool(one.error) for one in known.values())
        return cls(done, failed, len(known) - done - failed)

    @property
    def fraction(self) -> float:
        """The share of all points that need not be waited for."""
        return 1 - self.left / (self.done + self.failed + self.left)

    def __str__(self) -> str:
        said = [f"{self.done} of {self.done + self.failed + self.left} points done"]
        if self.failed:
            said.append(f"{self.failed} failed")
        if self.left and math.isfinite(self.seconds_left):
            said.append(f"about {_duration(self.seconds_left)} left")
        return ", ".join(said)


@dataclass(frozen=True)
class Sweep:
    """What has come of a sweep.

    Attributes:
        record: the numbers of all points over the dimensions of the sweep.
        standing: how many points are there.
        failures: why points failed, a line for each reason, the most frequent first.
        cancelled: whether it was ended from outside before all points were run.

    >>> import gradflow as gf
    >>> from pathlib import Path
    >>> lines = "problem: {kind: digits}", "flow: {t1: 1}", "seed: {sweep: [5, 7]}"
    >>> characters = Path("seeds.yaml").write_text("\\n".join(lines))
    >>> plan = gf.sweep.plan("seeds.yaml")
    >>> begun = gf.sweep.run(plan, Path("runs/seeds"), cancelled=lambda: True)  # at once
    >>> begun.failures, dict(begun.to_xarray().sizes)
    ((), {'seed': 2})
    """

    record: Trajectory
    standing: Standing
    failures: tuple[str, ...]
    cancelled: bool

    def to_xarray(self) -> xarray.Dataset:
        """The numbers as an `xarray.Dataset`."""
        return self.record.to_xarray()


def run(
    plan: Plan,
    directory: Path,
    *,
    workers: Workers | None = None,
    retry: bool = False,
    command: str = "",
    progress: Callable[[Standing], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Sweep:
    """Run every point of `plan` that is not yet in `directory`, and keep all that came of it.

    A point lies in ``directory/points/KEY`` and is a run like any other, known by what its numbers
    depend on; so it is not run again, whenever the sweep was ended, and however it has grown. One
    that fails is recorded and does not keep the others from running. In a script this stands below
    ``if __name__ == "__main__":``, for processes of our own import it.

    Args:
        plan: what to do.
        directory: new, or that of a sweep to go on with.
        workers: who does it; by default processes of our own on all of the machine.
        retry: whether points that have failed before are run again.
        command: how this was called, for the manifest.
        progress: told whenever a point has ended.
        cancelled: asked now and then whether to end; points under way are given up then.

    Returns:
        The record, also where points are missing.

    Raises:
        StorageError: the directory cannot be used, or another process uses it; nothing was written.
        ClusterError: there is no worker.
        OSError: a file cannot be written.

    >>> import gradflow as gf
    >>> from pathlib import Path
    >>> lines = "problem: {kind: digits}", "flow: {t1: 1}", "seed: {sweep: [1, 2, 3]}"
    >>> characters = Path("three.yaml").write_text("\\n".join(lines))
    >>> plan = gf.sweep.plan("three.yaml")
    >>> begun = gf.sweep.run(plan, Path("runs/three"), cancelled=lambda: True)  # at once
    >>> begun.standing.done, begun.standing.left, begun.cancelled
    (0, 3, True)
    >>> begun.to_xarray()["result"].values
    array(['missing', 'missing', 'missing'], dtype=object)
    """
    with storage.lock(directory, overwrite=_is_ours(directory)):
        manifest = _settle(plan, directory, command)
        known = {point.key: status(place(directory, point.key)) for point in plan.points}
        for key in [key for key, one in known.items() if one.error and retry]:
            shutil.rmtree(place(directory, key))
            known[key] = Status()
        missing = [point for point in plan.points if known[point.key] == Status()]
        pace = _Pace(known, progress)
        for point, ended in compute(missing, directory, workers or Workers(), command, cancelled):
            known[point.key] = ended
            pace.tell()
        return _keep(plan, directory, manifest, known)


def _keep(
    plan: Plan, directory: Path, manifest: dict[str, Any], known: Mapping[str, Status]
) -> Sweep:
    """Write what has come of all points."""
    standing = Standing.of(known)
    record = collect(plan, directory, known)
    storage.write_trajectory(directory / storage.SWEEP, record)
    failures = _failures(known)
    summary = {
        "points": len(plan.points),
        "done": standing.done,
        "failed": standing.failed,
        "dimensions": {dim.name: list(dim.labels) for dim in plan.dimensions},
        "failures": list(failures),
        "left_out": record.attrs["left_out"],
    }
    storage.write_json(directory / storage.SUMMARY, {"sweep": summary})
    if standing.done:
        keep(render(of_sweep(record)), directory)
    if not standing.left:
        end(manifest, directory)
    if plan.points[0].config.report:
        write_report(directory)
    return Sweep(record, standing, failures, bool(standing.left))


def _is_ours(directory: Path) -> bool:
    """Whether a sweep lies there."""
    try:
        return "sweep" in storage.read_manifest(directory)
    except storage.StorageError:
        return False


def _settle(plan: Plan, directory: Path, command: str) -> dict[str, Any]:
    """Make the directory of a sweep, or go on in it; returns its manifest."""
    manifest = origin(command) | {"sweep": len(plan.points)}
    if _is_ours(directory):
        manifest["began"] = storage.read_manifest(directory)["began"]
        storage.write_json(directory / storage.MANIFEST, manifest)
    else:
        storage.create(directory, manifest, overwrite=False)
    storage.write(directory / storage.CONFIG, plan.dump().encode())
    if plan.source is not None and plan.source.is_file():
        storage.write(directory / storage.SOURCE, plan.source.read_bytes())
    return manifest


class _Pace:
    """Tells how far a sweep is, and how long it will take."""

    def __init__(
        self, known: Mapping[str, Status], progress: Callable[[Standing], None] | None
    ) -> None:
        self._known, self._progress = known, progress
        self._first: tuple[float, int] | None = None
        if progress is not None:
            progress(Standing.of(known))

    def tell(self) -> None:
        """A point has ended."""
        standing, now = Standing.of(self._known), time.monotonic()
        if self._first is None:
            # Only from here on: this point has compiled what the others find.
            self._first = now, standing.left
        elif (ended := self._first[1] - standing.left) > 0:
            seconds = (now - self._first[0]) / ended * standing.left
            standing = replace(standing, seconds_left=seconds)
        if self._progress is not None:
            self._progress(standing)


def _failures(known: Mapping[str, Status]) -> tuple[str, ...]:
    """The reasons, each with how many points it has."""
    reasons = Counter(one.error for one in known.values() if one.error)
    return tuple(
        f"{count} point{'s' * (count > 1)}: {reason}" for reason, count in reasons.most_common()
    )


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
