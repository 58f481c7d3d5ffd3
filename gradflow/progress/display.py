"""How a run looks in a terminal, in a notebook, and in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .watch import Progress as Report

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_LOG_SECONDS = 10.0  # between the plain lines off a terminal


class Display:
    """A progress bar on a terminal or in a notebook, elsewhere a plain line now and then.

    Lines and the terminal's bar go to stderr. Until there is more to say it says `first`.
    """

    def __init__(self, quiet: bool = False, first: str = "compiling") -> None:
        self._quiet, self._first = quiet, first
        self._bar = None if quiet or _in_notebook() else _bar(first)
        self._cell: Any = None
        self._last_line = time.monotonic()

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
        elif _in_notebook() and not self._quiet:
            self._cell = _cell(_html(self._first, None))
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
        self.show(_line(report), report.fraction)

    def show(self, line: str, fraction: float) -> None:
        """Show a line, and the share of all that is done."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=fraction, description=line)
        elif self._cell is not None:
            self._cell.update(_Html(_html(line, fraction)))
        elif not self._quiet and time.monotonic() - self._last_line >= _LOG_SECONDS:
            self._last_line = time.monotonic()
            with suppress(BrokenPipeError):  # who reads may go; the run goes on
                print(line, file=sys.stderr, flush=True)


def shown(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Lets a function that takes `progress` take ``True`` for it, which is a `Display`."""

    @wraps(function)
    def watched(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        asked = kwargs.get("progress")
        if not isinstance(asked, bool):
            return function(*args, **kwargs)
        with Display(quiet=not asked) as display:
            kwargs["progress"] = display.update if asked else None
            return function(*args, **kwargs)

    return watched


def _bar(first: str) -> Bar | None:
    """The bar of a terminal; none on a dumb one, on which nothing can be drawn over."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as TimeRemaining
    from rich.table import Column

    console = Console(stderr=True)
    if not console.is_interactive:
        return None
    # On a narrow terminal the bar gives way first, then the end of the text.
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(table_column=Column(min_width=4)),
        TimeRemaining(compact=True, table_column=Column(min_width=5)),
        console=console,
        transient=True,
        expand=True,
    )
    bar.add_task(first, total=1.0)
    return bar


class _Html(str):
    """Markup that a notebook shows as such."""

    def _repr_html_(self) -> str:
        return self


def _in_notebook() -> bool:
    """Whether a kernel runs this, and not a script that has imported one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def _cell(html: str) -> Any:
    """Shows markup in the notebook; the handle by which it is replaced."""
    from IPython.display import display  # pyright: ignore[reportMissingImports]

    return display(_Html(html), display_id=True)


def _html(line: str, fraction: float | None) -> str:
    value = "" if fraction is None else f' value="{fraction:.4f}"'
    return f'<progress max="1"{value}></progress> <code>{escape(line)}</code>'


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
