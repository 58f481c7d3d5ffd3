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

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> shown = gf.report.Shown(gf.plotting.LOSS, flow, marks={"T1": 1.0})
    >>> [drawn.figure.name for drawn in gf.report.render([shown], kinds=("png",))]
    ['loss']
    """

    figure: plotting.Figure | plotting.HeatMap
    record: Trajectory
    marks: Mapping[str, float | Band | None]


class Drawn(NamedTuple):
    """A figure that was drawn.

    Attributes:
        figure: what it shows.
        files: their contents by kind, e.g. ``"png"``.
    """

    figure: plotting.Figure | plotting.HeatMap
    files: dict[plotting.Kind, bytes]


def of_flow(task: Task, flow: Trajectory, compared: Trajectory | None) -> list[Shown]:
    """The figures of the task, of the spectrum and of the comparison with descents.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> class Bowl(gf.tasks.Task):
    ...     def build(self, key, data_key=None):
    ...         return problem
    >>> [shown.figure.name for shown in gf.report.of_flow(Bowl(), flow, compared=None)]
    ['loss', 'energy', 'sharpness']
    """
    pairs = [(figure, flow) for figure in (*task.drawn(flow), *spectra.figures(flow))]
    if compared is not None:
        conserved = (*invariants(task, flow), "balancedness")
        pairs += [(figure, compared) for figure in comparison.figures(compared, conserved)]
    marks = phases(task, flow)
    return [Shown(figure, record, marks) for figure, record in pairs]


def of_study(task: Task, record: Trajectory) -> list[Shown]:
    """The figures of a scaling study.

    >>> import gradflow as gf
    >>> import optax
    >>> class Bowl(gf.tasks.Task):
    ...     sizes = {"width": "width $m$"}
    ...     kind: str = "bowl"
    ...     width: int = 1
    ...     def build(self, key, data_key=None):
    ...         return gf.Problem(optax.l2_loss, float(self.width), 0.0)  # L = width^2 / 2
    ...     def measures(self, flow):
    ...         return (gf.tasks.Measure("start", "loss at t = 0", float(flow["loss"][0])),)
    >>> save = gf.Linear(count=5)
    >>> study = gf.scaling_study(Bowl(), {"width": [1, 2, 4]}, seeds=2, t1=2.0, save=save)
    >>> [shown.figure.name for shown in gf.report.of_study(Bowl(), study.record)]
    ['scaling-width-start']
    """
    return [Shown(figure, record, {}) for figure in scaling.figures(record, task.sizes)]


def of_run(task: Task, run: storage.Run) -> list[Shown]:
    """The figures of a stored run.

    Raises:
        StorageError: it has neither a flow nor a study.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> class Bowl(gf.tasks.Task):
    ...     def build(self, key, data_key=None):
    ...         return problem
    >>> from pathlib import Path
    >>> run = gf.Run(Path("runs/mine"), {"flow": flow}, summary={}, manifest={}, claims=[])
    >>> [shown.figure.name for shown in gf.report.of_run(Bowl(), run)]
    ['loss', 'energy', 'sharpness']
    """
    if run.scaling is not None:
        return of_study(task, run.scaling)
    if "flow" not in run.trajectories:
        raise storage.StorageError(f"{run.directory} has no {storage.FLOW} to draw")
    return of_flow(task, run.flow, run.comparison)


def render(
    shown: Iterable[Shown], kinds: Sequence[plotting.Kind] = plotting.FILES
) -> Iterator[Drawn]:
    """Draw one figure after the other, without those for which nothing was recorded.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> shown = [gf.report.Shown(gf.plotting.LOSS, flow, marks={})]
    >>> sorted(next(gf.report.render(shown)).files)
    ['pdf', 'png']
    """
    for one in shown:
        if files := plotting.render(*one, kinds=kinds):
            yield Drawn(one.figure, files)


def keep(drawn: Iterable[Drawn], directory: Path) -> list[Path]:
    """Write the PNG and PDF of figures into the run's folder for them, each as it comes.

    Returns:
        The files written.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> from pathlib import Path
    >>> shown = [gf.report.Shown(gf.plotting.LOSS, flow, marks={})]
    >>> [str(path) for path in gf.report.keep(gf.report.render(shown), Path())]
    ['figures/loss.png', 'figures/loss.pdf']
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

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> class Bowl(gf.tasks.Task):
    ...     def build(self, key, data_key=None):
    ...         return problem
    ...     def phases(self, trajectory):
    ...         return {"T1": 0.7}
    >>> gf.report.phases(Bowl(), flow)
    {'T1': 0.7}
    """
    if SEED not in flow.coords:
        return dict(task.phases(flow))
    found = {}
    for name, times in flow.attrs["phases"].items():
        reached = [time for time in times.values() if time is not None]
        found[name] = band(np.array(reached)) if 2 * len(reached) >= len(times) else None
    return found


def invariants(task: Task, flow: Trajectory) -> dict[str, float]:
    """The worst relative drift of each quantity that the task's flow conserves, over all seeds.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> class Bowl(gf.tasks.Task):
    ...     def build(self, key, data_key=None):
    ...         return problem
    ...     def invariants(self, trajectory):
    ...         return {"balance": float(trajectory["distance"][0])}
    >>> gf.report.invariants(Bowl(), flow)
    {'balance': 0.0}
    """
    if SEED in flow.coords:
        return flow.attrs["invariants"]
    return task.invariants(flow)
