"""Programs that the command has compiled, kept on disk for the next that needs the same.

The library leaves JAX's settings alone; the command, and what runs points for it, call `keep`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import jax
from jax._src import compilation_cache
from jax._src.compilation_cache_interface import CacheInterface

# The folder, or OFF.
VARIABLE = "GRADFLOW_CACHE"
OFF = "off"
_MOST = 1 << 30  # bytes in the folder


class Programs(CacheInterface):
    """JAX's cache as files in a folder, which any number of processes use at a time.

    JAX's own reads a program that another process has only half written, and keeps for ever what
    one that was killed, or found the disk full, has left. Where it is bounded, it goes through all
    files for each that it adds.

    Args:
        folder: is there, and is nobody else's to write to: what lies in it is run.
        most: bytes; of more, what was used least recently is deleted.
    """

    def __init__(self, folder: Path, most: int = _MOST) -> None:
        self._path, self._most = folder, most
        self._has_room = False

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
        with suppress(OSError):
            if not self._has_room:  # looked for once in a process that compiles
                self._make_room()
                self._has_room = True
            handle, beside = tempfile.mkstemp(dir=self._path)
            try:
                with open(handle, "wb") as file:
                    file.write(value)
                os.replace(beside, self._path / key)
            except OSError:
                os.unlink(beside)

    def _make_room(self) -> None:
        kept = sorted(files(self._path), key=lambda file: file.stat().st_mtime, reverse=True)
        size = 0
        for file in kept:
            size += file.stat().st_size
            if size > self._most:
                os.unlink(file)


def place() -> Path | None:
    """Where programs are kept; ``None`` if they are not, or JAX was told itself whether and where.

    ``$GRADFLOW_CACHE``, or else ``gradflow/compiled`` in ``$XDG_CACHE_HOME`` or ``~/.cache``: not
    at all for a user who has none of these.
    """
    told = os.environ.get(VARIABLE, "")
    ours = isinstance(compilation_cache._cache, Programs)
    elsewhere = jax.config.values["jax_compilation_cache_dir"] is not None and not ours
    if told.lower() == OFF or elsewhere or not jax.config.values["jax_enable_compilation_cache"]:
        return None
    if told:
        return Path(told).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home, "gradflow", "compiled") if os.path.isabs(home) else None


def keep() -> None:
    """Have JAX keep what it compiles from now on, and find what was kept, if there is a place.

    Raises:
        OSError: the folder cannot be used; nothing is kept.
    """
    folder = place()
    if folder is None or isinstance(compilation_cache._cache, Programs):
        return
    # What was compiled for one processor may not run on another.
    folder /= _processor()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # Of the small programs there are many, and to read one takes a tenth of compiling it.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    compilation_cache._cache = Programs(folder)
    compilation_cache._cache_initialized = True


def files(folder: Path) -> list[os.DirEntry[str]]:
    """All files in a folder and in those within it; none if it is not there.

    >>> from pathlib import Path
    >>> from gradflow.compiled import files
    >>> files(Path("nowhere"))
    []
    """
    found: list[os.DirEntry[str]] = []
    with suppress(OSError):
        for entry in os.scandir(folder):
            found += files(Path(entry.path)) if entry.is_dir() else [entry]
    return found


def _processor() -> str:
    """A name for the kind of processor."""
    told = [platform.machine(), platform.processor()]
    with suppress(OSError), open("/proc/cpuinfo") as lines:
        first = takewhile(str.strip, lines)
        told += [line for line in first if line.startswith(("model name", "flags", "Features"))]
    return hashlib.sha256("".join(told).encode()).hexdigest()[:8]
