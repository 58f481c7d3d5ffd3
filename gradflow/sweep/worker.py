"""A process that runs points: its share of the machine, and for how long it keeps programs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ..storage import InUseError
from .point import Status, run_point

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
    from distributed import Reschedule, get_worker

    here = get_worker()
    key = here.get_current_task()

    def unwanted() -> bool:
        task = here.state.tasks.get(key)
        return task is None or task.state != "executing"

    with _ONE_AT_A_TIME:
        _share(here.state.nthreads)
        _find_compiled()
        try:
            return run_point(content, Path(directory), command, unwanted)
        except InUseError:
            # By whom a sweep that was ended has left at it: it will see that before long.
            time.sleep(_PAUSE)
            raise Reschedule from None
        finally:
            _let_go()


@cache
def _find_compiled() -> None:
    """What the other workers compile they need not compile each for itself."""
    from .. import compiled

    try:
        compiled.keep()
    except compiled.PlaceError as error:
        print(f"warning: {error}; see gradflow doctor", file=sys.stderr)


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


def _let_go() -> None:
    """A process that keeps the programs of very many points runs out of memory maps."""
    with suppress(OSError):
        most = int(Path("/proc/sys/vm/max_map_count").read_text())
        with open("/proc/self/maps", "rb") as maps:
            crowded = sum(1 for _ in maps) > _FULL * most
        if crowded:
            import jax

            jax.clear_caches()
