"""Wall times of what is compared, in one process and by turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax

_REQUEST = "/jax/core/compile/backend_compile_duration"  # answered by the cache or the compiler

# Seconds of every round, by name.
Times = dict[str, list[float]]


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of one call, which must not return before its result is there."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def alternating(runs: Mapping[str, Callable[[], Any]], rounds: int) -> Times:
    """The seconds of each of `runs`, called by turns `rounds` times.

    Each is called once before, uncounted, so that everything is compiled. What else the machine
    does then falls on all of them alike.
    """
    for run in runs.values():
        run()
    taken: Times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(seconds(run))
    return taken


def ratios(times: list[float], base: list[float]) -> list[float]:
    """Round by round, so that a slow minute of the machine falls out."""
    return [a / b for a, b in zip(times, base, strict=True)]


@contextmanager
def requests() -> Iterator[list[str]]:
    """The programs that JAX asks its cache or its compiler for, as they are asked for."""
    found: list[str] = []

    def listen(event: str, _: float, **told: Any) -> None:
        if event == _REQUEST:
            found.append(str(told.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def warm(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns and its seconds; made again if it had to compile something."""
    for _ in range(2):
        began = time.perf_counter()
        with requests() as compiled:
            returned = run()
        taken = time.perf_counter() - began
        if not compiled:
            break
    return returned, taken
