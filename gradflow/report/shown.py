"""Which figures a run has, what each is drawn from, and where its files go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import comparison, plotting, scaling, spectra, storage
from ..analysis import Band, band
from ..tasks import Task
from ..trajectory import SEED, Trajectory


class Shown(NamedTuple):
    """A figure with everything that it is drawn from.

    Attributes:
        figure: what it shows.
        record: what was recorded.
        marks: times by name, as `gradflow.plotting.draw` has them.
    """

    figure: plotting.Figure
    record: Trajectory
    marks: Mapping[str, float | Band | None]


class Drawn(NamedTuple):
    """A figure that was drawn.

    Attributes:
        figure: what it shows.
        files: their contents by kind, e.g. ``"png"``.
    """

    figure: plotting.Figure
    files: dict[plotting.Kind, bytes]


def of_flow(task: Task, flow: Trajectory, compared: Trajectory | None) -> list[Shown]:
    """The figures of the task, of the spectrum and of the comparison with descents."""
    pairs = [(figure, flow) for figure in (*task.drawn(flow), *spectra.FIGURES)]
    if compared is not None:
        conserved = (*invariants(task, flow), "balancedness")
        pairs += [(figure, compared) for figure in comparison.figures(compared, conserved)]
    marks = phases(task, flow)
    return [Shown(figure, record, marks) for figure, record in pairs]


def of_study(task: Task, record: Trajectory) -> list[Shown]:
    """The figures of a scaling study."""
    return [Shown(figure, record, {}) for figure in scaling.figures(record, task.sizes)]


def of_run(task: Task, run: storage.Run) -> list[Shown]:
    """The figures of a stored run.

    Raises:
        StorageError: it has neither a flow nor a study.
    """
    if run.scaling is not None:
        return of_study(task, run.scaling)
    if "flow" not in run.trajectories:
        raise storage.StorageError(f"{run.directory} has no {storage.FLOW} to draw")
    return of_flow(task, run.flow, run.comparison)


def render(
    shown: Iterable[Shown], kinds: Sequence[plotting.Kind] = plotting.FILES
) -> Iterator[Drawn]:
    """Draw one figure after the other, without those for which nothing was recorded."""
    for one in shown:
        if files := plotting.render(*one, kinds=kinds):
            yield Drawn(one.figure, files)


def keep(drawn: Iterable[Drawn], directory: Path) -> list[Path]:
    """Write the PNG and PDF of figures into the run's folder for them, each as it comes.

    Returns:
        The files written.
    """
    folder = directory / storage.FIGURES
    folder.mkdir(exist_ok=True)
    written = []
    for figure, files in drawn:
        for kind in plotting.FILES:
            path = folder / f"{figure.name}.{kind}"
            storage.write(path, files[kind])
            written.append(path)
    return written


def phases(task: Task, flow: Trajectory) -> dict[str, float | Band | None]:
    """The task's phases.

    Of an ensemble the band over the seeds that reached each; ``None`` if fewer than half did.
    """
    if SEED not in flow.coords:
        return dict(task.phases(flow))
    found = {}
    for name, times in flow.attrs["phases"].items():
        reached = [time for time in times.values() if time is not None]
        found[name] = band(np.array(reached)) if 2 * len(reached) >= len(times) else None
    return found


def invariants(task: Task, flow: Trajectory) -> dict[str, float]:
    """The worst relative drift of each quantity that the task's flow conserves, over all seeds."""
    if SEED in flow.coords:
        return flow.attrs["invariants"]
    return task.invariants(flow)
