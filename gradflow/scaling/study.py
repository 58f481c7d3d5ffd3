"""`scaling_study`: the runs of a problem at several sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import jax

from ..ensemble import checked_seeds, solve_ensemble
from ..flow import FlowSpec, checked
from ..problem import Problem
from ..progress import Progress, Shown, shown
from ..storage import Checkpoints, OtherRunError
from ..tasks import Task
from ..trajectory import Trajectory
from .fits import Fit, fits
from .record import Measured, Plan, assemble
from .spec import Scaling

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Study:
    """How what runs measure grows with the sizes of a problem.

    Attributes:
        record: every number that was measured, over sizes, systems and seeds.
        failures: runs that are missing, and why, a line each.
        points: how many problems were run for every seed, and how many were to be.
        cancelled: whether it was ended from outside.

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
    >>> study.points, study.failures, dict(study.to_xarray().sizes)
    ((3, 3), (), {'width': 3, 'system': 1, 'seed': 2})
    """

    record: Trajectory
    failures: tuple[str, ...]
    points: tuple[int, int]
    cancelled: bool

    @cached_property
    def fits(self) -> tuple[Fit, ...]:
        """The power laws, by measure, size and system."""
        return fits(self.record)

    def to_xarray(self) -> xarray.Dataset:
        """The numbers as an `xarray.Dataset`."""
        return self.record.to_xarray()


def _build(task: Task, seed: int) -> Problem:
    return task.build(jax.random.key(seed))


@shown
def scaling_study(
    task: Task,
    vary: Mapping[str, Sequence[int]],
    seeds: int | Sequence[int],
    *,
    t1: float,
    model_weights: int = 0,
    build: Callable[[Task, int], Problem] = _build,
    checkpoints: Checkpoints | str | PathLike[str] | None = None,
    progress: Shown = None,
    cancelled: Callable[[], bool] | None = None,
    **options: Any,
) -> Study:
    """Vary the sizes of a problem, one at a time, and fit power laws to what its runs measure.

    Every seed is run at every size, and the same seeds at all. Runs of different sizes are alike in
    the task's own `unit_of_time`, in which all go on for the same: `t1` and the save times are
    those of `task`, and are stretched for the others.

    Args:
        task: with the sizes that are kept while another is varied.
        vary: values of each size, by its name in ``task.sizes``.
        seeds: all different; or how many, for 0, 1 and so on.
        t1: end time at the sizes of `task`.
        model_weights: up to how many weights `Task.counterpart` is run too, e.g. the transformer
            itself beside its coupled system.
        build: makes the problem of a task and a seed.
        checkpoints: as in `gradflow.solve_ensemble`, for the runs of every size.
        progress: as in `gradflow.solve`, of all together, by one thread at a time.
        cancelled: called now and then, from several threads; everything ends when it returns
            true, and what is finished is kept.
        **options: all else that `gradflow.solve` takes but `observables`.

    Returns:
        The study. A run that fails is told of in its ``failures`` and does not lose the others.

    Raises:
        ValueError: an argument is out of range.

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
    >>> study.record["start_against_width"][:, 0, 0]
    array([0.5, 2. , 8. ])
    >>> round(study.fits[0].exponent, 6)
    2.0
    """
    tell = progress if callable(progress) else None
    spec = Scaling(vary={name: tuple(values) for name, values in vary.items()})
    for path, message in spec.misfits(task):
        raise ValueError(f"{'.'.join(path)}: {message}")
    seeds = checked_seeds(seeds)
    solver = options.pop("solver", "auto")
    flow = checked(t1=t1, solver=solver, **options)
    plan = Plan.of(task, spec.vary, model_weights)
    measured: dict[Task, Measured] = {}
    failures: list[str] = []
    done, kept = 0, Checkpoints.of(checkpoints)
    for i, (point, places) in enumerate(plan.points.items()):
        if cancelled is not None and cancelled():
            break
        size, row, system = places[0]
        name = f"{system}, {size} {plan.sizes[size][row]}"
        stretched = flow.stretched(point.unit_of_time / task.unit_of_time)
        arguments = {field: getattr(stretched, field) for field in FlowSpec.model_fields}
        try:
            runs = solve_ensemble(
                partial(build, point),
                seeds,
                **arguments | {"solver": solver},
                checkpoints=kept and kept.child(f"point-{i}"),
                progress=tell and _overall(tell, name, i, len(plan.points)),
                cancelled=cancelled,
            )
        except OtherRunError:
            raise
        except Exception as error:  # of this point alone: the others go on
            failures.append(f"{name}: {type(error).__name__}: {error}")
            continue
        failures += [f"{name}, seed {seed}: {why}" for seed, why in runs.failures.items()]
        measured[point] = {seed: point.measures(run) for seed, run in runs.whole.items()}
        done += {*runs.whole, *runs.failures} == {*seeds}
    ended = cancelled is not None and cancelled()
    record = assemble(plan, measured, seeds, failures)
    record = replace(record, result="cancelled") if ended else record
    return Study(record, tuple(failures), (done, len(plan.points)), ended)


def _overall(
    progress: Callable[[Progress], None], name: str, point: int, points: int
) -> Callable[[Progress], None]:
    """What is told of one point's runs, as a share of all points."""
    return lambda report: progress(
        replace(report, fraction=(point + report.fraction) / points, point=name)
    )
