"""Runs on disk. Every file appears whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .trajectory import Trajectory, Variable

if TYPE_CHECKING:
    import xarray

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
# What a run consists of beside its manifest.
_FILES = (
    *(CONFIG, SOURCE, SUMMARY, CLAIMS, "*.nc", FINAL, CRITICAL_POINT, EIGENVALUES),
    *(f"{FIGURES}/*.png", f"{FIGURES}/*.pdf", REPORT),
)


class StorageError(Exception):
    """There is no run to read, or no place for a new one; one line with the way out."""


@dataclass(frozen=True)
class Run:
    """A stored run.

    Attributes:
        directory: where it lies.
        trajectories: every trajectory by the stem of its file, e.g. ``"flow"``.
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
        """The flow's trajectory."""
        return self.trajectories["flow"]

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


def create(directory: Path, manifest: dict[str, Any], overwrite: bool) -> None:
    """A directory that holds a manifest and nothing else of a run.

    Of a run that is replaced only its own files are removed.

    Raises:
        StorageError: it exists and may not be overwritten, is no run of ours, or cannot be made.
    """
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True)
        elif any(directory.iterdir()):
            if not overwrite:
                raise StorageError(
                    f"{directory} exists; allowed: another directory, by --output DIR, or "
                    "--overwrite to replace it"
                )
            try:
                _read_manifest(directory)
            except StorageError as error:
                raise StorageError(
                    f"not overwritten, for {error}; allowed: another directory, by --output DIR"
                ) from None
            # The manifest stays to the last: what is left of a run can still be overwritten.
            for pattern in _FILES:
                for path in directory.glob(pattern):
                    path.unlink()
        write_json(directory / MANIFEST, manifest)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(
            f"cannot write to {directory}, {reason}; allowed: another directory, by --output DIR"
        ) from None


def write(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Write beside, flush to the disk, rename: `path` has all of `content` or what it had before.

    Args:
        path: the file.
        content: its bytes, or a function that writes them to the path that it is given.

    Raises:
        OSError: the file cannot be written; it names `path`.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if callable(content):
            content(beside)
        else:
            beside.write_bytes(content)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, reason, str(path)) from None
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """`content` as JSON; NaN and infinities, which JSON lacks, as null."""
    write(path, (json.dumps(_plain(content), indent=2, allow_nan=False) + "\n").encode())


def write_trajectory(path: Path, trajectory: Trajectory) -> None:
    """A trajectory as netCDF-4, for `read_trajectory` or any reader of netCDF."""
    dataset = trajectory.to_xarray()
    record = {name: getattr(trajectory, name) for name in _RECORD}
    dataset.attrs = {
        "Conventions": "gradflow-1",
        "record": json.dumps(record, default=lambda value: value.tolist()),
    }
    write(path, lambda beside: _to_netcdf(dataset, beside))


# What is kept of a trajectory beside its variables and coordinates.
_RECORD = ("final_time", "result", "stats", "crossings", "event_values", "attrs")


def _to_netcdf(dataset: xarray.Dataset, path: Path) -> None:
    try:
        dataset.to_netcdf(path, engine="netcdf4")
    except RuntimeError as error:  # how netCDF says that the disk is full
        raise OSError(errno.EIO, f"{error} (is the disk full?)") from None


def read_trajectory(path: Path) -> Trajectory:
    """The trajectory in a netCDF file that `write_trajectory` made.

    Raises:
        StorageError: the file is missing, damaged or of another origin.
    """
    import xarray

    try:
        with xarray.open_dataset(path, engine="netcdf4", decode_times=False) as dataset:
            dataset.load()
        record = json.loads(dataset.attrs["record"])
        crossings = {
            name: np.asarray(rows, dtype=float).reshape(-1, 2)
            for name, rows in record.pop("crossings").items()
        }
        return Trajectory(
            variables={
                str(name): Variable(
                    array.values,
                    tuple(map(str, array.dims)),
                    array.attrs["long_name"],
                    array.attrs["units"],
                )
                for name, array in dataset.reset_coords().data_vars.items()
            },
            coords={
                str(name): array.values
                for name, array in dataset.coords.items()
                if name in dataset.dims
            },
            crossings=crossings,
            **record,
        )
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist") from None
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StorageError(f"{path} is damaged: {reason}") from None
    except (KeyError, ValueError, TypeError, AttributeError):
        raise StorageError(f"{path} is not a trajectory that gradflow wrote") from None


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Named arrays as one ``.npz`` file."""

    def save(beside: Path) -> None:
        with open(beside, "wb") as file:  # a handle, or NumPy would append a suffix
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]

    write(path, save)


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
    manifest = _read_manifest(directory)
    return Run(
        directory,
        {path.stem: read_trajectory(path) for path in sorted(directory.glob("*.nc"))},
        _read_json(directory / SUMMARY) if (directory / SUMMARY).exists() else {},
        manifest,
        _read_json(directory / CLAIMS).get("claims", []) if (directory / CLAIMS).exists() else [],
    )


def _read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a run; many other programs have a file of that name."""
    path = directory / MANIFEST
    manifest = _read_json(path) if path.is_file() else {}
    versions = manifest.get("versions")
    if not isinstance(versions, dict) or "gradflow" not in versions:
        raise StorageError(f"{directory} is not a gradflow run: it has no {MANIFEST} of one")
    return manifest


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise StorageError(f"{path} is damaged: it holds no mapping")
    return content


def _plain(value: Any) -> Any:
    """Only what JSON knows."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
