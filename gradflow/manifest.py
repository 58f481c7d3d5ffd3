"""What made a run, kept beside it: versions, device, seed, command, commit and times."""

from __future__ import annotations

import platform
import subprocess
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


def begin(config: Config, directory: Path, command: str, overwrite: bool) -> dict[str, Any]:
    """Make a run's directory, with its configuration and its manifest, which is returned.

    Raises:
        StorageError: the directory cannot be used; nothing was written.
    """
    manifest = _manifest(config, command, datetime.now(UTC))
    if isinstance(config.problem, Python) and config.problem.source is not None:
        # The run keeps a copy of the file, and is run again from that.
        manifest["problem"] = config.problem.target
        kept = config.problem.model_copy(update={"target": config.problem.kept})
        config = config.model_copy(update={"problem": kept})
    storage.create(directory, manifest, overwrite)
    storage.write(directory / storage.CONFIG, dump(config).encode())
    return manifest


def end(manifest: dict[str, Any], directory: Path) -> None:
    """Say in a run's manifest that all of it is there."""
    manifest["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
    storage.write_json(directory / storage.MANIFEST, manifest)


def _manifest(config: Config, command: str, began: datetime) -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "command": command,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in _PACKAGES},
        "device": {"platform": device.platform, "kind": device.device_kind},
        **({"mesh": _spread(config.mesh)} if config.mesh is not None else {}),
        "machine": platform.platform(),
        "precision": config.precision,
        "seed": config.seed,
        **({"seeds": config.seeds} if config.seeds > 1 else {}),
        "commit": _commit(),
        "began": began.isoformat(timespec="seconds"),
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
