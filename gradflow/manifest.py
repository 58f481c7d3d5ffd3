"""What made a run, kept beside it: versions, device, seed, command, commit and times."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from . import storage
from .config import Config, dump
from .mesh import Mesh
from .tasks import Python

_PACKAGES = ("gradflow", "jax", "jaxlib", "diffrax", "equinox", "optax", "numpy", "xarray")


# Of a configuration what changes nothing of what is computed.
FREE = ("output", "figures", "report", "checkpoint")


class EndedError(storage.StorageError):
    """A run cannot go on, for it has come to its end."""


class ChangedError(Exception):
    """A run cannot go on, for it was told something else when it was begun.

    Attributes:
        changes: by key of the configuration, joined by dots, what has changed.
    """

    def __init__(self, changes: dict[str, str]):
        self.changes = changes
        super().__init__("; ".join(f"{key}: {change}" for key, change in changes.items()))


def begin(config: Config, directory: Path, command: str, overwrite: bool) -> dict[str, Any]:
    """Make a run's directory, with its configuration and its manifest, which is returned.

    Raises:
        StorageError: the directory cannot be used; nothing was written.
    """
    manifest = _manifest(config, command)
    storage.create(directory, manifest, overwrite)
    storage.write(directory / storage.CONFIG, dump(kept(config)).encode())
    return manifest


def go_on(config: Config, directory: Path, command: str) -> tuple[dict[str, Any], list[str]]:
    """The manifest of a run that was begun and goes on, and what has to be said of that.

    What was written of its results is removed: it is behind what its checkpoints have.

    Raises:
        ChangedError: it was told something else when it was begun.
        EndedError: it has come to its end.
        StorageError: there is no such run.
    """
    before = storage.read_manifest(directory)
    if "config" not in before:
        raise storage.StorageError(
            f"{directory} was begun by a gradflow that kept nothing to go on from; allowed: "
            "--overwrite, to run it anew"
        )
    now = _manifest(config, command)
    if changes := _changes(before, now):
        raise ChangedError(changes)
    if "ended" in before:
        raise EndedError(f"{directory} has ended; there is nothing left to do")
    told = [
        f"{name} is {now['versions'][name]} and was {version}: what was computed before stays as "
        "it is, and what comes may differ from it in its last bits"
        for name, version in before["versions"].items()
        if name in now["versions"] and version != now["versions"][name]
    ]
    storage.remove_results(directory)
    storage.write(directory / storage.CONFIG, dump(kept(config)).encode())
    resumed = [*before.get("resumed", ()), now["began"]]
    as_before = {name: before[name] for name in ("command", "began", "problem") if name in before}
    manifest = now | as_before | {"resumed": resumed}
    storage.write_json(directory / storage.MANIFEST, manifest)
    return manifest, told


def _changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """What a run is told and was not told before, by key."""
    was, is_ = (dict(_flat(manifest["config"])) for manifest in (before, now))
    changes = {
        key: f"is {_said(is_, key)} and was {_said(was, key)} when the run was begun"
        for key in {**was, **is_}
        if was.get(key) != is_.get(key) and key.split(".")[0] not in FREE
    }
    if before.get("source") != now.get("source"):
        changes["problem.target"] = "the file is not what it was when the run was begun"
    return changes


def _flat(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The leaves of a configuration; a list is one."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _flat(value, (*path, key))
    else:
        yield ".".join(path), tree


def _said(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "not there"


def kept(config: Config) -> Config:
    """The configuration as the run keeps it, with a copy of the user's own file, if it has one."""
    if not isinstance(config.problem, Python) or config.problem.source is None:
        return config
    problem = config.problem.model_copy(update={"target": config.problem.kept})
    return config.model_copy(update={"problem": problem})


def end(manifest: dict[str, Any], directory: Path) -> None:
    """Say in a run's manifest that all of it is there."""
    _note(manifest, directory, "ended")


def interrupt(manifest: dict[str, Any], directory: Path) -> None:
    """Say in a run's manifest that it was interrupted, and can go on."""
    _note(manifest, directory, "interrupted")


def _note(manifest: dict[str, Any], directory: Path, what: str) -> None:
    manifest[what] = _now()
    storage.write_json(directory / storage.MANIFEST, manifest)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def origin(command: str) -> dict[str, Any]:
    """What can be said without waking a device: the command, versions, commit and the time.

    >>> from gradflow import manifest
    >>> manifest.origin("gradflow sweep grid.yaml")["command"]
    'gradflow sweep grid.yaml'
    """
    return {
        "command": command,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in _PACKAGES},
        "machine": platform.platform(),
        "commit": _commit(),
        "began": _now(),
    }


def _manifest(config: Config, command: str) -> dict[str, Any]:
    device, own = jax.devices()[0], {}
    if isinstance(config.problem, Python) and (source := config.problem.source) is not None:
        own = {
            "problem": config.problem.target,
            "source": hashlib.sha256(source.read_bytes()).hexdigest(),
        }
    return {
        **origin(command),
        "device": {"platform": device.platform, "kind": device.device_kind},
        **({"mesh": _spread(config.mesh)} if config.mesh is not None else {}),
        "precision": config.precision,
        "seed": config.seed,
        **({"seeds": config.seeds} if config.seeds > 1 else {}),
        **own,
        "config": kept(config).model_dump(mode="json"),
    }


def _spread(mesh: Mesh) -> dict[str, int]:
    """How many devices share what, and how many there are, of how many processes."""
    shares = {"data": mesh.data, "params": mesh.params}
    return {**shares, "devices": len(jax.devices()), "processes": jax.process_count()}


def _commit() -> str | None:
    """The commit of gradflow's own checkout, where it runs from one."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
