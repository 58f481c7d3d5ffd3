"""Runs on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..trajectory import Trajectory
from .checkpoints import Checkpoints
from .files import InUseError, StorageError, read_json, write_json
from .trajectories import read_trajectory

MANIFEST = "manifest.json"
CONFIG = "config.yaml"
SUMMARY = "summary.json"
CLAIMS = "claims.json"
FLOW = "flow.nc"
FINAL = "flow-final.npz"
SOURCE = "problem.py"  # a copy of the file that a user's own problem is made by
CRITICAL_POINT = "critical-point.npz"
EIGENVALUES = "critical-point-eigenvalues.npz"
DESCENT = "descent-{}.nc"  # by the place of its learning rate in the configuration
COMPARISON = "comparison.nc"
SCALING = "scaling.nc"
SWEEP = "sweep.nc"
FIGURES = "figures"
REPORT = "report.html"
CHECKPOINTS = "checkpoints"
SEED_OF = "seed-"  # begins the name of a seed's own trajectory, while the others are under way
_LOCK = ".lock"
# What a run has computed.
_RESULTS = (
    *(SUMMARY, CLAIMS, "*.nc", FINAL, CRITICAL_POINT, EIGENVALUES),
    *(f"{FIGURES}/*.png", f"{FIGURES}/*.pdf", REPORT),
)


@dataclass(frozen=True)
class Run:
    """A stored run.

    Attributes:
        directory: where it lies.
        trajectories: every trajectory by the stem of its file, e.g. ``"flow"``; of a run under way
            what was kept last, and of several seeds those that are done, e.g. ``"seed-0"``.
        summary: the headline numbers.
        manifest: what made the run: versions, device, seed, command, times.
        claims: the task's claims, by the fields of `gradflow.tasks.Claim` or of its `Tally`.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> from pathlib import Path
    >>> run = gf.Run(Path("runs/mine"), {"flow": flow}, summary={}, manifest={}, claims=[])
    >>> run.flow.result, run.descents, run.comparison
    ('end_time', (), None)
    """

    directory: Path
    trajectories: dict[str, Trajectory]
    summary: dict[str, Any]
    manifest: dict[str, Any]
    claims: list[dict[str, Any]]

    @property
    def flow(self) -> Trajectory:
        """The flow's trajectory; of a run that was cut off, or is under way, as last kept.

        Raises:
            StorageError: there is none, or not yet.
        """
        if (flow := self.trajectories.get(Path(FLOW).stem)) is None:
            there = ", ".join(self.trajectories) or "nothing"
            raise StorageError(f"{self.directory} has no flow that could be read; there is {there}")
        return flow

    @property
    def descents(self) -> tuple[Trajectory, ...]:
        """The descents' trajectories, in the order of the learning rates."""
        stems = (Path(DESCENT.format(i)).stem for i in range(len(self.trajectories)))
        return tuple(self.trajectories[stem] for stem in stems if stem in self.trajectories)

    @property
    def comparison(self) -> Trajectory | None:
        """The comparison of descents with the flow, if there were any."""
        return self.trajectories.get(Path(COMPARISON).stem)

    @property
    def scaling(self) -> Trajectory | None:
        """What was measured at several sizes, if that was the run."""
        return self.trajectories.get(Path(SCALING).stem)

    @property
    def sweep(self) -> Trajectory | None:
        """What the points of a sweep came to, over its dimensions, if that was the run."""
        return self.trajectories.get(Path(SWEEP).stem)

    @property
    def config(self) -> Path:
        """The resolved configuration's file."""
        return self.directory / CONFIG


@contextmanager
def lock(directory: Path, overwrite: bool = False) -> Iterator[None]:
    """Hold a run's directory, which is made if need be, for this process alone.

    However a process ends, it holds nothing any more.

    Raises:
        InUseError: another process holds it.
        StorageError: it is no place for a run.
    """
    from filelock import FileLock, Timeout

    with _told(directory):
        _refuse(directory, overwrite)
        directory.mkdir(parents=True, exist_ok=True)
        held = FileLock(directory / _LOCK)
        try:
            held.acquire(timeout=0)
        except Timeout:
            raise InUseError(
                f"{directory} is in use: another process is at work on it; allowed: another "
                "directory, by --output DIR, or to wait for its end"
            ) from None
        _remove_litter(directory)
    try:
        yield
    finally:
        # While it is held: whoever has opened the file by now finds that it is not the one to hold.
        (directory / _LOCK).unlink(missing_ok=True)
        held.release()


def create(directory: Path, manifest: dict[str, Any], overwrite: bool) -> None:
    """A directory that holds a manifest and nothing else of a run.

    Of a run that is replaced only its own files are removed.

    Raises:
        StorageError: it exists and may not be overwritten, is no run of ours, or cannot be made.
    """
    with _told(directory):
        _refuse(directory, overwrite)
        directory.mkdir(parents=True, exist_ok=True)
        Checkpoints(directory / CHECKPOINTS).clear()
        # Before anything else goes: there is one at any moment, and none that says of a run whose
        # results are gone that it has ended.
        write_json(directory / MANIFEST, manifest)
        remove_results(directory)
        for name in (CONFIG, SOURCE):
            (directory / name).unlink(missing_ok=True)


def remove_results(directory: Path) -> None:
    """Of a run remove all that was computed, but for its checkpoints."""
    for pattern in _RESULTS:
        for path in directory.glob(pattern):
            path.unlink()


def _refuse(directory: Path, overwrite: bool) -> None:
    """Refuse a directory that is not empty, unless it is that of a run and may be overwritten."""
    if not directory.exists() or (directory.is_dir() and not _contents(directory)):
        return
    if not overwrite and directory.is_dir():
        raise StorageError(
            f"{directory} exists; allowed: another directory, by --output DIR, "
            "--resume to go on with the run there, or --overwrite to replace it"
        )
    if directory.is_dir():
        try:
            read_manifest(directory)
        except StorageError as error:
            raise StorageError(
                f"not overwritten, for {error}; allowed: another directory, by --output DIR"
            ) from None


def _remove_litter(directory: Path) -> None:
    """What a process that was killed had half written beside its files."""
    for path in directory.iterdir():
        # What is in a run below, as in a point of a sweep, its own process is writing.
        if path.is_dir() and not path.is_symlink() and not (path / _LOCK).exists():
            _remove_litter(path)
        elif _is_litter(path) and path.is_file():
            path.unlink(missing_ok=True)


def _is_litter(path: Path) -> bool:
    return path.name[0] == "." and path.suffix[1:].isdecimal()


def _contents(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name != _LOCK and not _is_litter(path)]


@contextmanager
def _told(directory: Path) -> Iterator[None]:
    """What the system does not allow, in one line."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(
            f"cannot write to {directory}, {reason}; allowed: another directory, by --output DIR"
        ) from None


def load(directory: str | Path) -> Run:
    """Every trajectory of a stored run.

    Args:
        directory: of the run, as the command wrote it.

    Returns:
        The run; what it does not have, such as its descents, is empty or ``None``.

    Raises:
        StorageError: there is no run, or one of its files is damaged.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> from gradflow import storage
    >>> from pathlib import Path
    >>> here = Path("runs/mine")  # as `gradflow solve CONFIG.yaml --output runs/mine` makes one
    >>> storage.create(here, {"versions": {"gradflow": gf.__version__}}, overwrite=False)
    >>> storage.write_trajectory(here / storage.FLOW, flow)
    >>> bool((gf.load("runs/mine").flow["loss"] == flow["loss"]).all())
    True
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    trajectories = {path.stem: read_trajectory(path) for path in sorted(directory.glob("*.nc"))}
    return Run(
        directory,
        trajectories or _under_way(directory),
        read_json(directory / SUMMARY) if (directory / SUMMARY).exists() else {},
        manifest,
        read_json(directory / CLAIMS).get("claims", []) if (directory / CLAIMS).exists() else [],
    )


def _under_way(directory: Path) -> dict[str, Trajectory]:
    """What a run that was cut off had recorded when its state was kept last."""
    state = Checkpoints(directory / CHECKPOINTS).latest() or {}
    found = {Path(FLOW).stem: state["flow"]["record"]} if "flow" in state else {}
    for i, descent in enumerate(state.get("descents", ())):
        found[Path(DESCENT.format(i)).stem] = descent["record"]
    return found | {SEED_OF + seed: kept["run"] for seed, kept in state.get("seeds", {}).items()}


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a run; many other programs have a file of that name."""
    path = directory / MANIFEST
    manifest = read_json(path) if path.is_file() else {}
    versions = manifest.get("versions")
    if not isinstance(versions, dict) or "gradflow" not in versions:
        raise StorageError(f"{directory} is not a gradflow run: it has no {MANIFEST} of one")
    return manifest
