"""How commands end: exit codes, lines on stderr, signals."""

from __future__ import annotations

import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import click

MACHINE_FAILED, BAD_USAGE, NUMERICS_FAILED, INTERRUPTED = 1, 2, 3, 130


def say(text: str) -> None:
    """A line that is no result."""
    click.echo(text, err=True)


def fail(text: str, code: int = BAD_USAGE) -> NoReturn:
    """End the command, and say why."""
    say(text)
    sys.exit(code)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """What the library warns of, a line each and not where in its code."""
    from ..descent import StabilityWarning
    from ..storage import CheckpointWarning

    with warnings.catch_warnings():
        for kind in (StabilityWarning, CheckpointWarning):
            warnings.simplefilter("always", kind)
        warnings.showwarning = lambda message, *_: say(f"warning: {message}")
        yield


class Interrupt:
    """Asks the run to end and be kept, when a signal says so; a second one ends the process.

    Signals are Ctrl-C, what ends a process politely, and what a batch system sends before a job's
    time is over.
    """

    def __init__(self) -> None:
        self._asked: float | None = None

    def __enter__(self) -> Interrupt:
        names = ("SIGINT", "SIGTERM", "SIGUSR1")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        self._before = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        del frame
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
            # Whoever reads the lines may have ended by the same Ctrl-C, or the signal have come
            # in the middle of a line: neither may end the run before it is kept.
            with suppress(OSError, RuntimeError):
                say("interrupted: ending the run and keeping it (once more to quit at once)")
        elif now - self._asked > 1:  # sooner, a launcher has passed on what the terminal sent too
            sys.exit(128 + number)

    def __call__(self) -> bool:
        """Whether it was asked."""
        return self._asked is not None
