"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np


class StorageError(Exception):
    """There is no run to read, or no place for a new one; one line with the way out."""


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
        _flush(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, reason, str(path)) from None
    finally:
        beside.unlink(missing_ok=True)


def _flush(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can: a renamed file has one too."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """`content` as JSON; NaN and infinities, which JSON lacks, as null."""
    write(path, (json.dumps(_plain(content), indent=2, allow_nan=False) + "\n").encode())


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Named arrays as one ``.npz`` file."""

    def save(beside: Path) -> None:
        with open(beside, "wb") as file:  # a handle, or NumPy would append a suffix
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]

    write(path, save)


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        StorageError: the file is missing or damaged.
    """
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
