"""One point of a sweep: run by a worker, and known by what lies in its directory."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

from .. import storage

POINTS = "points"
FAILURE = "failure.json"  # of a point that ended in an error


class Status(NamedTuple):
    """How far a point is.

    Attributes:
        done: whether all of it was computed.
        error: why it failed; empty where it did not.

    >>> import gradflow as gf
    >>> gf.sweep.Status(error="ValueError: no such model").done
    False
    """

    done: bool = False
    error: str = ""


def place(directory: Path, key: str) -> Path:
    """The directory of a point, in that of its sweep."""
    return directory / POINTS / key


def status(directory: Path) -> Status:
    """How far the point in `directory` is; one that was begun and not ended is not done.

    >>> import gradflow as gf
    >>> from pathlib import Path
    >>> gf.sweep.status(Path("nowhere"))
    Status(done=False, error='')
    """
    with suppress(OSError, ValueError):
        return Status(error=read_json(directory / FAILURE)["error"])
    try:
        manifest = read_json(directory / storage.MANIFEST)
        flow = read_json(directory / storage.SUMMARY)["flow"]
    except (OSError, ValueError, KeyError):
        return Status()
    result = flow["result"]
    if "ended" not in manifest or result == "cancelled":
        return Status()
    from ..flow import FAILURES, RESULTS

    if result in FAILURES:
        return Status(error=f"at t = {flow['t1']:.6g}: {RESULTS[result]}")
    return Status(done=True)


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def fail(directory: Path, error: str) -> Status:
    """Record that the point in `directory` ended in an error; what it had computed stays."""
    directory.mkdir(parents=True, exist_ok=True)
    storage.write_json(directory / FAILURE, {"error": error})
    return Status(error=error)


def _goes_on(directory: Path) -> bool:
    """Whether a point that is not whole can go on: it was begun, and nothing of it is damaged."""
    try:
        return "ended" not in storage.read_manifest(directory)
    except storage.StorageError:
        return False


def run_point(
    content: dict[str, Any],
    directory: Path,
    command: str,
    cancelled: Callable[[], bool] | None = None,
) -> Status:
    """Run a point and keep it in `directory`, whatever comes of it.

    Args:
        content: its configuration, as JSON has it.
        directory: its own; a point that is whole there, or has failed, is left as it is.
        command: how the sweep was called, for the manifest.
        cancelled: as in `gradflow.solve`.

    Raises:
        InUseError: another process is at work on it.
    """
    import jax

    from .. import experiment
    from .._blame import UsersError
    from ..building import UnfitError
    from ..config import Config
    from ..descent import StabilityWarning
    from .plan import key_of

    # Dask runs a point again whose answer was lost with a worker.
    if (before := status(directory)) != Status():
        return before
    config = Config.model_validate_json(json.dumps(content))
    config = config.model_copy(update={"figures": False, "report": False})
    # Before any array of this point exists; what was compiled in another precision is kept apart.
    jax.config.update("jax_enable_x64", config.precision == "float64")
    source = config.problem.source
    if source is not None and source.is_file() and key_of(config) != directory.name:
        return fail(directory, f"{source} was changed after the sweep had begun; run it again")
    if not _goes_on(directory):
        shutil.rmtree(directory, ignore_errors=True)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
            # Like what a user's own code prints, they would run through the progress of the whole.
            for kind in (StabilityWarning, storage.CheckpointWarning):
                warnings.simplefilter("ignore", kind)
            # A point that was begun is continued from what it has kept.
            experiment.run(config, directory, resume=True, command=command, cancelled=cancelled)
    except storage.InUseError:
        raise
    except (UsersError, UnfitError) as error:
        return fail(directory, str(error))
    except Exception as error:  # of this point alone: the others go on
        return fail(directory, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return status(directory)
