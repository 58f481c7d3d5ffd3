"""Programs that the command has compiled, kept on disk for the next that needs the same.

The library leaves JAX's settings alone; the command, and what runs points for it, call `keep`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import tempfile
import time
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import jax

# The folder, or OFF.
VARIABLE = "GRADFLOW_CACHE"
OFF = "off"
_MOST = 1 << 30  # bytes in all folders
# What lies in a place and has other names is not ours to delete.
_FOLDER = re.compile("[0-9a-f]{8}")
_KEY = re.compile(".+-[0-9a-f]{64}")
_BESIDE = "unfinished-"
_ABANDONED = 86400.0  # seconds after which nobody is still at work on an unfinished file


class PlaceError(Exception):
    """Nothing can be kept in the place that there is; the message is one line."""

    def __init__(self, place: str | Path, why: str) -> None:
        super().__init__(f"compiled programs are not kept: {place}: {why}")


class Kept(NamedTuple):
    """A program on disk: when it was used last, in seconds of the epoch; bytes; and where."""

    used: float
    size: int
    path: Path


class Programs:
    """JAX's cache as files in a folder, which any number of processes use at a time.

    JAX's own reads a program that another process has only half written, and keeps for ever what
    one that was killed, or found the disk full, has left. Where it is bounded, it goes through all
    files for each that it adds.

    Args:
        folder: one of those in a place, see `folder`: what lies in it is run.
        most: bytes in the place; of more, what was used least recently is deleted. Each process
            looks after an eighth of it, and keeps no program that is larger.
    """

    def __init__(self, folder: Path, most: int = _MOST) -> None:
        self._path = folder  # JAX writes it in its log
        self._most, self._share = most, most // 8
        self._written = most

    def get(self, key: str) -> bytes | None:
        """The program of a key; ``None`` if there is none."""
        path = self._path / key
        try:
            found = path.read_bytes()
        except OSError:
            return None
        with suppress(OSError):
            os.utime(path)  # its last use
        return found

    def put(self, key: str, value: bytes) -> None:
        """Keep a program if that is possible: a full disk is no reason for a run to fail."""
        if len(value) > self._share:
            return
        self._written += len(value)
        if self._written > self._share:
            self._make_room()
            self._written = len(value)
        with suppress(OSError):
            handle, beside = tempfile.mkstemp(prefix=_BESIDE, dir=self._path)
            try:
                with open(handle, "wb") as file:
                    file.write(value)
                os.replace(beside, self._path / key)
            except BaseException:
                os.unlink(beside)
                raise

    def _make_room(self) -> None:
        size = 0
        for used, bytes_, path in kept(self._path.parent):
            unfinished = path.name.startswith(_BESIDE)
            size += bytes_
            abandoned = unfinished and time.time() - used > _ABANDONED
            if abandoned or (size > self._most - self._share and not unfinished):
                with suppress(OSError):  # another process has deleted it
                    path.unlink()


def place() -> Path | None:
    """Where programs are kept; ``None`` if they are not, or JAX was told itself whether and where.

    ``$GRADFLOW_CACHE``, or else ``gradflow/compiled`` in ``$XDG_CACHE_HOME`` or ``~/.cache``: not
    at all for a user who has none of these.

    Raises:
        PlaceError: ``$GRADFLOW_CACHE`` depends on where the command is run.
    """
    told = os.environ.get(VARIABLE, "")
    jaxs = hook()
    if told.lower() == OFF or jaxs is None or not jax.config.values["jax_enable_compilation_cache"]:
        return None
    if jax.config.values["jax_compilation_cache_dir"] and not isinstance(jaxs._cache, Programs):
        return None
    if told:
        if not os.path.isabs(folder := os.path.expanduser(told)):
            raise PlaceError(
                f"{VARIABLE}={told}", f"it is relative; allowed: an absolute folder, or {OFF}"
            )
        return Path(folder)
    home = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(home):  # to be ignored, says the XDG Base Directory Specification
        home = os.path.expanduser("~/.cache") if os.environ.get("HOME") != "" else ""
    return Path(home, "gradflow", "compiled") if os.path.isabs(home) else None


def folder(place: Path) -> Path:
    """The folder of this machine and process in a place, made if need be.

    Raises:
        PlaceError: it cannot be written to, or others can: what they put there would be run.
    """
    found = place / _machine()
    try:
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=found).close()
        stat = found.stat()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise PlaceError(error.filename or found, why) from None
    if not _ours(stat):
        raise PlaceError(found, "it is another user's")
    if hasattr(os, "geteuid") and stat.st_mode & 0o022:
        raise PlaceError(found, "others may write to it; chmod go-w it")
    return found


def keep() -> None:
    """Have JAX keep what it compiles from now on, and find what was kept, if there is a place.

    Raises:
        PlaceError: the place cannot be used; nothing is kept.
    """
    there, jaxs = place(), hook()
    if there is None or isinstance(jaxs._cache, Programs):
        return
    used = folder(there)
    jax.config.update("jax_compilation_cache_dir", str(used))
    for name, value in (
        # Of the small programs there are many, and to read one takes a tenth of compiling it.
        ("jax_persistent_cache_min_compile_time_secs", 0.0),
        # XLA's own files would lie among ours, and their place be part of what is looked up.
        ("jax_persistent_cache_enable_xla_caches", "none"),
    ):
        if name.upper() not in os.environ:
            jax.config.update(name, value)
    jaxs.reset_cache()
    jaxs._cache = Programs(used)
    jaxs._cache_initialized = True


def kept(place: Path) -> list[Kept]:
    """The user's programs in a place, finished or not, the one used last first.

    >>> from pathlib import Path
    >>> from gradflow.compiled import kept
    >>> kept(Path("nowhere"))
    []
    """
    found = []
    for path in place.glob("*/*"):
        known = _KEY.fullmatch(path.name) or path.name.startswith(_BESIDE)
        if known and _FOLDER.fullmatch(path.parent.name):
            with suppress(OSError):  # another process has deleted it
                if _ours(stat := path.stat()):
                    found.append(Kept(stat.st_mtime, stat.st_size, path))
    return sorted(found, reverse=True)


def hook() -> Any:
    """JAX's module that holds its cache; ``None`` if this JAX does not let it be replaced so.

    There is no public way.
    """
    with suppress(ImportError, AttributeError):
        from jax._src import compilation_cache
        from jax._src.compilation_cache_interface import CacheInterface

        names = ("_cache", "_cache_initialized", "reset_cache")
        has_all = all(hasattr(compilation_cache, name) for name in names)
        if has_all and CacheInterface.__abstractmethods__ == {"get", "put"}:
            return compilation_cache
    return None


def _ours(stat: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or stat.st_uid == os.geteuid()


def _machine() -> str:
    """A name for what XLA compiles for and JAX does not look at.

    What was compiled for one processor may not run on another; and into a program for a CPU goes
    over how many processors its work is split.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    told = [platform.machine(), platform.processor(), str(usable), os.environ.get("NPROC", "")]
    with suppress(OSError), open("/proc/cpuinfo") as lines:
        first = takewhile(str.strip, lines)
        told += [line for line in first if line.startswith(("model name", "flags", "Features"))]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]
