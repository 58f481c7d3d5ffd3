"""Runs on disk. Every file appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
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
FLOW = "flow.nc"
FINAL = "flow-final.npz"
FIGURES = "figures"


class StorageError(Exception):
    """A run cannot be written or read; the message is one line with the way out."""


@dataclass(frozen=True)
class Run:
    """A stored run.

    Attributes:
        directory: where it lies.
        trajectories: every trajectory by the stem of its file, e.g. ``"flow"``.
        summary: the headline numbers.
        manifest: what made the run: versions, device, seed, command, times.
    """

    directory: Path
    trajectories: dict[str, Trajectory]
    summary: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def flow(self) -> Trajectory:
        """The flow's trajectory."""
        return self.trajectories["flow"]

    @property
    def config(self) -> Path:
        """The resolved configuration's file."""
        return self.directory / CONFIG


def create(directory: Path, overwrite: bool) -> None:
    """An empty directory for a run.

    Raises:
        StorageError: it exists and may not be overwritten, is no run of ours, or cannot be made.
    """
    try:
        if directory.is_dir() and any(directory.iterdir()):
            if not overwrite:
                raise StorageError(
                    f"{directory} exists; choose another with --output DIR, or replace it with "
                    "--overwrite"
                )
            if not (directory / MANIFEST).is_file():
                raise StorageError(
                    f"{directory} is not a gradflow run (it has no {MANIFEST}), so --overwrite "
                    "does not delete it; choose another with --output DIR"
                )
            shutil.rmtree(directory)
        directory.mkdir(parents=True, exist_ok=True)
        # A directory that can be made may still not be written to.
        write(directory / MANIFEST, b"{}")
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot write to {directory}: {reason}; choose another with --output DIR"
        ) from None


def write(path: Path, content: bytes | Callable[[Path], None]) -> None:
    """Write beside, flush to the disk, rename: `path` has all of `content` or what it had before.

    Args:
        path: the file.
        content: its bytes, or a function that writes them to the path that it is given.

    Raises:
        OSError: the file cannot be written.
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
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """`content` as JSON; NaN and infinities, which JSON lacks, as null."""
    write(path, (json.dumps(_plain(content), indent=2, allow_nan=False) + "\n").encode())


def write_trajectory(path: Path, trajectory: Trajectory) -> None:
    """A trajectory as netCDF-4, for `read_trajectory` or any reader of netCDF."""
    dataset = trajectory.to_xarray()
    dataset.attrs = {
        "Conventions": "gradflow-1",
        "record": json.dumps(
            _plain(
                {
                    "final_time": trajectory.final_time,
                    "result": trajectory.result,
                    "stats": trajectory.stats,
                    "crossings": {k: v.tolist() for k, v in trajectory.crossings.items()},
                    "event_values": trajectory.event_values,
                }
            )
        ),
    }
    write(path, lambda beside: _to_netcdf(dataset, beside))


def _to_netcdf(dataset: xarray.Dataset, path: Path) -> None:
    dataset.to_netcdf(path, engine="netcdf4")


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
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist") from None
    except (OSError, KeyError, ValueError) as error:
        raise StorageError(f"{path} is not a readable trajectory: {error}") from None
    return Trajectory(
        variables={
            str(name): Variable(
                array.values,
                tuple(map(str, array.dims)),
                array.attrs.get("long_name", ""),
                array.attrs.get("units", "1"),
            )
            for name, array in dataset.data_vars.items()
        },
        coords={str(name): array.values for name, array in dataset.coords.items()},
        final_time=record["final_time"],
        stats=record["stats"],
        result=record["result"],
        crossings={
            name: np.asarray(rows, dtype=float).reshape(-1, 2)
            for name, rows in record["crossings"].items()
        },
        event_values={
            name: np.nan if value is None else value
            for name, value in record["event_values"].items()
        },
    )


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Named arrays as one ``.npz`` file."""

    def save(beside: Path) -> None:
        with open(beside, "wb") as file:  # a handle, or NumPy would append a suffix
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]

    write(path, save)


def load(directory: str | Path) -> Run:
    """Every trajectory of a stored run.

    Raises:
        StorageError: there is no run, or one of its files is damaged.
    """
    directory = Path(directory)
    manifest = directory / MANIFEST
    if not manifest.is_file():
        raise StorageError(f"{directory} is not a gradflow run: it has no {MANIFEST}")
    return Run(
        directory,
        {path.stem: read_trajectory(path) for path in sorted(directory.glob("*.nc"))},
        _read_json(directory / SUMMARY) if (directory / SUMMARY).exists() else {},
        _read_json(manifest),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} is not readable: {error}") from None


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
