"""The workers of a sweep: processes of our own on this machine, or a scheduler that runs already.

Dask is imported only when a cluster is asked for.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .worker import environment

if TYPE_CHECKING:
    from distributed import Client

# How often a point may take its worker with it, and is then run again.
_LIVES = 2
_CONFIG = {
    "distributed.scheduler.allowed-failures": _LIVES,
    "distributed.admin.log-length": 0,
    "distributed.comm.timeouts.connect": "60s",
}
_PATIENCE, _PAUSE = 30, 0.1  # seconds for a scheduler to be there, and between looks


class ClusterError(Exception):
    """There is nobody to run the points; one line with the way out.

    >>> import gradflow as gf
    >>> issubclass(gf.sweep.ClusterError, OSError)  # it is told by itself
    False
    """


@dataclass(frozen=True)
class Workers:
    """Who runs the points.

    Attributes:
        count: processes of our own; otherwise one for each GPU, or else for each processor.
        scheduler: the address of a scheduler that runs already, e.g. ``tcp://10.0.0.1:8786``.
        scheduler_file: a file in which a scheduler has left its address.

    >>> import gradflow as gf
    >>> gf.sweep.Workers(count=4).count
    4
    >>> gf.sweep.Workers(count=4, scheduler="tcp://10.0.0.1:8786")
    Traceback (most recent call last):
    ValueError: the workers of a scheduler are those that it has; allowed: no count
    """

    count: int | None = None
    scheduler: str | None = None
    scheduler_file: Path | None = None

    def __post_init__(self) -> None:
        elsewhere = self.scheduler is not None, self.scheduler_file is not None
        if all(elsewhere):
            raise ValueError("got a scheduler and a scheduler file; allowed: one of them")
        if any(elsewhere) and self.count is not None:
            raise ValueError("the workers of a scheduler are those that it has; allowed: no count")
        if self.count is not None and self.count < 1:
            raise ValueError(f"got {self.count} workers; allowed: 1 or more")

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of the scheduler; processes of our own end with it.

        Raises:
            ClusterError: no scheduler answers.
        """
        import distributed  # noqa: F401  # it fills in the configuration that is changed here
        from dask import config

        loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            with config.set(_CONFIG):
                if self.scheduler is None and self.scheduler_file is None:
                    with _local(self.count) as client:
                        yield client
                else:
                    with self._connected() as client:
                        yield client
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

    def _connected(self) -> Client:
        from distributed import Client

        told = self.scheduler or str(self.scheduler_file)
        patient = time.monotonic() + _PATIENCE
        while self.scheduler_file is not None and not self.scheduler_file.is_file():
            if time.monotonic() > patient:
                raise ClusterError(
                    f"{told} does not exist; start a scheduler with dask scheduler --scheduler-file"
                )
            time.sleep(_PAUSE)
        file = None if self.scheduler else told
        try:
            return Client(
                self.scheduler, scheduler_file=file, timeout=_PATIENCE, set_as_default=False
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ClusterError(f"no scheduler answers at {told}: {reason}") from None


@contextmanager
def _local(count: int | None) -> Iterator[Client]:
    """Processes of our own, each replaced if it dies."""
    from dask.system import cpu_count
    from distributed import Client, Nanny, Scheduler, SpecCluster

    gpus = _gpus()
    processors = cpu_count()
    count = count or len(gpus) or processors
    threads = max(1, processors // count)
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="gradflow-") as scratch:
        options: dict[str, Any] = {
            "nthreads": 1,
            "memory_limit": 0,  # what is too large fails by itself, and is not ended on suspicion
            "dashboard": False,
            "local_directory": scratch,
            "preload": ["gradflow.sweep.worker"],
            "silence_logs": logging.CRITICAL,
            "host": "127.0.0.1",
        }
        workers = {
            i: {
                "cls": Nanny,
                "options": options
                | {"env": environment(threads, gpus[i % len(gpus)] if gpus else None)},
            }
            for i in range(count)
        }
        scheduler = {
            "cls": Scheduler,
            # It has an HTTP server in any case, at a port that another sweep may have.
            "options": {
                "dashboard": False,
                "dashboard_address": "127.0.0.1:0",
                "host": "127.0.0.1",
                "port": 0,
            },
        }
        try:
            with (
                SpecCluster(workers, scheduler) as cluster,
                Client(cluster, set_as_default=False) as client,
            ):
                yield client
        finally:
            # Dask sets what its workers inherit.
            for name in os.environ.keys() - before.keys():
                del os.environ[name]


def _gpus() -> list[str]:
    """The NVIDIA GPUs that JAX would find, seen without waking it: a process that has woken JAX
    holds most of their memory."""
    asked = os.environ.get("JAX_PLATFORMS", "")
    plugged = any(find_spec(name) for name in ("jax_cuda12_plugin", "jax_cuda13_plugin"))
    if not plugged or (asked and not {"cuda", "gpu"} & {*asked.split(",")}):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    return [path.name.removeprefix("nvidia") for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
