"""A process that runs points: its share of the machine, and what the others have compiled."""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ..storage import InUseError
from .point import Status, run_point

COMPILED = ".compiled"
# What a program must take to compile to be worth keeping, in seconds.
_WORTH = 0.1
_PAUSE = 1.0  # seconds before a point is tried again that another process is at work on
# Of the memory maps that a process may have, the share after which compiled programs are let go.
_FULL = 0.5
_ONE_AT_A_TIME = threading.Lock()  # the precision is the process's


def environment(threads: int, device: str | None = None) -> dict[str, str]:
    """What JAX and the libraries below it must find when they are imported.

    Args:
        threads: how many a process may use.
        device: its GPU, if it is to see one only.

    >>> from gradflow.sweep.worker import environment
    >>> environment(1, device="3")["CUDA_VISIBLE_DEVICES"]
    '3'
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    found: dict[str, str] = {name: str(threads) for name in names}
    if threads == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        found["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    return found if device is None else found | {"CUDA_VISIBLE_DEVICES": device}


def dask_setup(worker: Any) -> None:
    """Called by Dask in every process of a cluster of our own, before anything is run.

    Ctrl-C in a terminal reaches all processes; what becomes of these the sweep decides.
    """
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def work(content: dict[str, Any], directory: str, command: str) -> Status:
    """Run a point in a worker of Dask; see `run_point`.

    It is given up when the scheduler does not want it any more, e.g. because the sweep was ended.
    """
    from dask import config
    from distributed import Reschedule, get_worker

    here = get_worker()
    key = here.get_current_task()

    def unwanted() -> bool:
        task = here.state.tasks.get(key)
        return task is None or task.state != "executing"

    # Or xarray would ask the scheduler before it writes a file.
    with _ONE_AT_A_TIME, config.set(scheduler="synchronous"):
        _share(here.state.nthreads)
        place = Path(directory)
        compiled = Compiled(place.parent.parent / COMPILED)
        try:
            return run_point(content, place, command, unwanted)
        except InUseError:
            # By whom a sweep that was ended has left at it: it will see that before long.
            time.sleep(_PAUSE)
            raise Reschedule from None
        finally:
            compiled.publish()
            _let_go()


@cache
def _share(threads: int) -> None:
    """Bounds the threads of a process that somebody else has started, before JAX computes."""
    if "NPROC" in os.environ:
        return
    # Of several processes that Slurm has put beside each other, each has a GPU of its own.
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    local = os.environ.get("SLURM_LOCALID", "")
    device = visible[int(local) % len(visible)] if len(visible) > 1 and local else None
    os.environ.update(environment(int(os.environ.get("SLURM_CPUS_PER_TASK", threads)), device))


class Compiled:
    """JAX's cache of compiled programs, shared by all workers on machines of the same kind.

    JAX reads a program that another process has only half written, and keeps for ever what a
    process that was killed has left of one. So each has a folder of its own, and links what is
    whole from it and into it, between points.
    """

    def __init__(self, folder: Path) -> None:
        self._shared = folder / _machine()
        self._own = self._shared / f"{platform.node()}-{os.getpid()}"
        if os.environ.get("JAX_COMPILATION_CACHE_DIR"):  # the user has one
            self._own = self._shared
            return
        import jax
        from jax.experimental.compilation_cache import compilation_cache

        with suppress(OSError):
            self._own.mkdir(parents=True, exist_ok=True)
        if getattr(jax.config, "jax_compilation_cache_dir", None) != str(self._own):
            jax.config.update("jax_compilation_cache_dir", str(self._own))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH)
            # XLA's own would make a program another one in another folder.
            jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
            compilation_cache.reset_cache()
        _link(self._shared, self._own)

    def publish(self) -> None:
        """Let the others have what was compiled."""
        if self._own != self._shared:
            _link(self._own, self._shared)


def _link(source: Path, target: Path) -> None:
    """Link the files of a folder into another."""
    with suppress(OSError):
        there = set(os.listdir(target))
        for entry in os.scandir(source):
            if entry.is_file() and entry.name not in there:
                with suppress(FileExistsError, FileNotFoundError):
                    os.link(entry.path, target / entry.name)


@cache
def _machine() -> str:
    """The kind of processor: what was compiled for one may not run on another."""
    told = platform.machine() + platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told += "".join(sorted({x for x in lines if x.startswith(("model name", "flags"))}))
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def _let_go() -> None:
    """A process that keeps the programs of very many points runs out of memory maps."""
    with suppress(OSError):
        most = int(Path("/proc/sys/vm/max_map_count").read_text())
        with open("/proc/self/maps", "rb") as maps:
            crowded = sum(1 for _ in maps) > _FULL * most
        if crowded:
            import jax

            jax.clear_caches()
