"""A stored sweep drawn again, and on one page; any other run as the rooms below do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import experiment, report, storage
from ..report import keep, render
from ..report.html import Content, page, section, table, tag
from ..report.numbers import number
from ..report.page import STYLE
from ..report.reproduction import reproduction
from ..report.vector import inlined
from ..trajectory import Trajectory
from .figures import of_sweep
from .record import SCALARS

_ROWS = 500  # of the table of points
_COLUMNS = ("final_loss", "gradient_evaluations", "error_estimate", "T_half", "T1")


def replot(directory: Path) -> list[Path]:
    """Draw the figures of a stored sweep, or of another run, again.

    Returns:
        The files written.

    Raises:
        StorageError, ConfigError, OSError: as `experiment.replot`.

    >>> import gradflow as gf
    >>> from pathlib import Path
    >>> gf.sweep.replot(Path("nowhere"))
    Traceback (most recent call last):
    gradflow.storage.files.StorageError: nowhere is not a gradflow run: ...
    """
    if "sweep" not in storage.read_manifest(directory):
        return experiment.replot(directory)
    return keep(render(of_sweep(_record(storage.load(directory)))), directory)


def write_report(directory: Path) -> Path:
    """Put a stored sweep, or another run, on one page.

    Returns:
        The file written, ``report.html``.

    Raises:
        StorageError, OSError: as `gradflow.report.write`.

    >>> import gradflow as gf
    >>> from gradflow import storage
    >>> from pathlib import Path
    >>> storage.create(Path("killed"), {"versions": {"gradflow": "0.1"}}, overwrite=False)
    >>> gf.sweep.write_report(Path("killed")).name
    'report.html'
    """
    if "sweep" not in storage.read_manifest(directory):
        return report.write(directory)
    run = storage.load(directory)
    path = run.directory / storage.REPORT
    storage.write(path, _compose(run, _record(run)).encode())
    return path


def _record(run: storage.Run) -> Trajectory:
    if run.sweep is None:
        raise storage.StorageError(
            f"{run.directory} has no {storage.SWEEP} yet; gradflow sweep "
            f"{run.config} --output {run.directory} goes on with it"
        )
    return run.sweep


def _compose(run: storage.Run, record: Trajectory) -> str:
    told = run.summary["sweep"]
    points, done, failed = told["points"], told["done"], told["failed"]
    verdict = ("bad", "Done", f": {done} of {points} points, {failed} failed")
    if not failed:
        verdict = ("good", "Done", f": all {points} points")
    if done + failed < points:
        verdict = ("open", "Unfinished", f": {done} of {points} points, {failed} failed")
    figures = [inlined(drawn) for drawn in render(of_sweep(record), ("svg",))]
    dims = [(name, str(len(record.coords[name])), _values(record, name)) for name in _dims(record)]
    return page(
        f"{run.directory.resolve().name} \N{EN DASH} gradflow",
        STYLE.read_text(encoding="utf-8"),
        tag(
            "header",
            tag("p", run.directory.resolve().name),
            tag("h1", f"A sweep over {' and '.join(_dims(record))}"),
            tag("p", tag("b", verdict[1]), tag("span", verdict[2]), class_=f"verdict {verdict[0]}"),
            *(tag("p", line, class_="note") for line in told["failures"]),
        ),
        section("Dimensions", table("What was varied", ("name", "values", "which"), dims)),
        section("Figures", tag("div", *figures, class_="figures")) if figures else None,
        section("Points", _points(record)),
        reproduction(run, None),
    )


def _dims(record: Trajectory) -> list[str]:
    return record.attrs["dimensions"]


def _values(record: Trajectory, name: str) -> str:
    return ", ".join(_said(value) for value in record.coords[name])


def _points(record: Trajectory) -> Content:
    """The headline numbers of every point, or of the first of very many."""
    dims = _dims(record)
    columns = [
        name for name in _COLUMNS if name in record and list(record.variables[name].dims) == dims
    ]
    rows = []
    for index in list(np.ndindex(record["result"].shape))[:_ROWS]:
        labels = [_said(record.coords[dim][i]) for dim, i in zip(dims, index, strict=True)]
        numbers = [number(float(record[name][index])) for name in columns]
        rows.append((*labels, str(record["result"][index]), *numbers))
    titles = [SCALARS.get(name, (name, name))[1] for name in columns]
    caption = "Headline numbers" if record["result"].size <= _ROWS else f"The first {_ROWS}"
    return table(caption, (*dims, "result", *titles), rows, numeric=len(columns))


def _said(value: Any) -> str:
    return str(value) if isinstance(value, str) else number(float(value))
