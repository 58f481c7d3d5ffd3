"""How a run looks in a terminal, and in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from .progress import Progress as Report

_LOG_SECONDS = 10.0  # between the plain lines off a terminal


class Display:
    """A progress bar on a terminal, a plain line now and then elsewhere; always on stderr."""

    def __init__(self, quiet: bool) -> None:
        console = Console(stderr=True)
        self._quiet = quiet
        self._bar = None
        # Not on a dumb terminal, on which nothing can be drawn over.
        if console.is_interactive and not quiet:
            # On a narrow terminal the bar gives way first, then the end of the text.
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TaskProgressColumn(table_column=Column(min_width=4)),
                TimeRemainingColumn(compact=True, table_column=Column(min_width=5)),
                console=console,
                transient=True,
                expand=True,
            )
            self._task = self._bar.add_task("compiling", total=1.0)
        self._last_line = time.monotonic()

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, report: Report) -> None:
        """Show how far the run is."""
        if self._bar is not None:
            self._bar.update(self._task, completed=report.fraction, description=_line(report))
        elif not self._quiet and time.monotonic() - self._last_line >= _LOG_SECONDS:
            self._last_line = time.monotonic()
            print(_line(report), file=sys.stderr, flush=True)


def _line(report: Report) -> str:
    loss = "" if report.loss is None else f", loss {report.loss:.4g}"
    of_all = ""
    if report.seed is not None:
        point = f"{report.point}, " if report.point else ""
        of_all = f"{report.fraction:.0%} of all; {point}seed {report.seed} at "
    return (
        f"{of_all}t = {report.time:.4g} of {report.t1:g}{loss}, step {report.step:.2g}, "
        f"{report.gradient_evaluations} gradients"
    )
