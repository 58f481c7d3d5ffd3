"""From a configuration to a stored run with its figures."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from . import comparison, ensemble, flow, report, scaling, storage
from ._blame import UsersError, not_finite, told
from ._devices import all_or_none, fetched
from .analysis import Band, band
from .building import build, placed, prepare, uncut
from .config import Config
from .config import load as load_config
from .critical_points import CriticalPoint, polish
from .manifest import begin, end, go_on, interrupt
from .plotting import FILES
from .problem import Problem
from .processes import NO_PLACE, kept_once
from .progress import Progress
from .report import Shown, invariants, keep, of_flow, of_run, of_study, phases, render
from .tasks import Claim, Tally, Task, tally
from .trajectory import Trajectory


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
        flow: the flow's trajectory; of several seeds, `gradflow.Ensemble.record`, whose ``attrs``
            have the task's ``phases``, by seed, and the worst of its ``invariants`` too.
        comparison: with the descents, if there were any.
        claims: those of the task, checked along the flow, or tallied over the seeds.
        ensemble: the runs of several seeds.
        critical_point: that the flow goes to, if it was asked for and the flow is whole.
        notes: what a user should know of it, a line or a few each.
    """

    flow: Trajectory
    comparison: comparison.Comparison | None
    claims: tuple[Claim, ...] | tuple[Tally, ...] = ()
    ensemble: ensemble.Ensemble | None = None
    critical_point: CriticalPoint | None = None
    notes: tuple[str, ...] = ()

    @property
    def cancelled(self) -> bool:
        """Whether it was cut short from outside."""
        compared = self.comparison
        runs = (self.flow, *(compared.descents if compared is not None else ()))
        between = self.ensemble is not None and self.ensemble.cancelled
        searching = getattr(self.critical_point, "reason", "") == "cancelled"
        return between or searching or "cancelled" in (run.result for run in runs)


@kept_once
def run(
    config: Config,
    directory: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    command: str = "",
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Outcome:
    """Do what `config` says and keep everything in `directory`.

    Whatever ends the run, the directory holds all that was computed until then. What was cut off or
    interrupted goes on with `resume`, to the same bits as if it had not been.

    Args:
        config: what to do; its `precision` must already be JAX's.
        directory: new, or a run to be replaced or to go on.
        overwrite: whether a run may be replaced.
        resume: whether a run that is there goes on.
        command: how this was called, for the manifest.
        progress: as in `gradflow.solve`.
        cancelled: as in `gradflow.solve`.

    Returns:
        The flow's trajectory, the comparison if there were descents, and the task's claims.

    Raises:
        UnfitError: what the configuration asks for cannot be had of this problem; nothing was
            written.
        UsersError: the user's own code raised an error.
        StorageError: the directory cannot be used, or another process uses it; nothing was written.
        ChangedError: the run was told something else when it was begun; nothing was written.
        EndedError: the run that should go on has come to its end; nothing was written.
        OSError: a file cannot be written.
        MemoryError: the problem is too large.

    Warns:
        CheckpointWarning: a checkpoint could not be read or not be written, or the run goes on with
            other versions of what it is computed by.
    """
    # First of all, because a problem that cannot be built should leave nothing behind.
    problem = placed(config, prepare(config))
    with _place(config, directory, overwrite, resume, command) as place:
        # Half a second of imports that compilation leaves the time for.
        warmer = threading.Thread(target=_import_ahead, args=(config.figures,), daemon=True)
        warmer.start()
        watch = {"progress": progress, "cancelled": cancelled, "checkpoints": place.checkpoints}
        with _told(problem, config.problem.source):
            outcome = _compute(config, problem, **watch)
        warmer.join()
        storage.write_trajectory(directory / storage.FLOW, outcome.flow)
        storage.write_arrays(directory / storage.FINAL, _named_arrays(outcome.flow.final_params))
        compared = outcome.comparison
        if compared is not None:
            for i, descent in enumerate(compared.descents):
                storage.write_trajectory(directory / storage.DESCENT.format(i), descent)
            storage.write_trajectory(directory / storage.COMPARISON, compared.record)
        # Only now, so that whatever ends this the flow is kept.
        with _told(problem, config.problem.source):
            notes = (*_notes(problem, outcome.flow), *uncut(config, problem))
            outcome = outcome._replace(notes=notes)
            outcome = _polished(config, problem, outcome, cancelled)
        if (point := outcome.critical_point) is not None:
            storage.write_arrays(directory / storage.CRITICAL_POINT, _named_arrays(point.params))
            storage.write_arrays(directory / storage.EIGENVALUES, point.spectrum)
        summary = summarise(config.problem, outcome)
        storage.write_json(directory / storage.SUMMARY, summary)
        outcome = outcome._replace(claims=_claims(config.problem, outcome))
        if outcome.claims:
            rows = [claim._asdict() for claim in outcome.claims]
            storage.write_json(directory / storage.CLAIMS, {"claims": rows})
        record = None if compared is None else compared.record
        place.show(of_flow(config.problem, outcome.flow, record), outcome.cancelled)
        return outcome


def scale(
    config: Config,
    directory: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    command: str = "",
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> scaling.Study:
    """Do the scaling study of `config`, which must have one, and keep it in `directory`.

    Arguments and what may be raised are those of `run`.
    """
    if config.scaling is None:
        raise ValueError("scaling is null; run() does what else there is")
    build(config, config.seed)
    with _place(config, directory, overwrite, resume, command) as place:
        study = scaling.scaling_study(
            config.problem,
            config.scaling.vary,
            range(config.seed, config.seed + config.seeds),
            model_weights=config.scaling.model_weights,
            build=lambda task, seed: build(config.model_copy(update={"problem": task}), seed),
            checkpoints=place.checkpoints,
            progress=progress,
            cancelled=cancelled,
            **{name: getattr(config.flow, name) for name in type(config.flow).model_fields},
        )
        storage.write_trajectory(directory / storage.SCALING, study.record)
        rows = [fit._asdict() for fit in study.fits]
        failures = {"failures": list(study.failures)} if study.failures else {}
        storage.write_json(directory / storage.SUMMARY, {"scaling": rows, **failures})
        place.show(of_study(config.problem, study.record), study.cancelled)
        return study


class _Place(NamedTuple):
    """Where a run is kept."""

    config: Config
    directory: Path
    manifest: dict[str, Any]
    checkpoints: storage.Checkpoints

    def show(self, shown: list[Shown], cancelled: bool) -> None:
        """Draw the figures, say how far the run is, and put it on a page."""
        config, directory = self.config, self.directory
        kinds = (*FILES, "svg") if config.report else FILES
        drawn = tuple(render(shown, kinds)) if config.figures else ()
        if config.figures:
            keep(drawn, directory)
        if cancelled:
            interrupt(self.manifest, directory)
        else:
            end(self.manifest, directory)
            self.checkpoints.clear()
        if config.report:
            report.write(directory, drawn)


@contextmanager
def _place(
    config: Config, directory: Path, overwrite: bool, resume: bool, command: str
) -> Iterator[_Place]:
    """The directory of a run, which no other process can have, with what the run begins with."""
    source = config.problem.source
    code = source.read_bytes() if source is not None else b""  # it may lie where the run goes
    with ExitStack() as held:
        with all_or_none(NO_PLACE):
            held.enter_context(storage.lock(directory, overwrite or resume))
            if resume and (directory / storage.MANIFEST).exists():
                manifest, told = go_on(config, directory, command)
                for line in told:
                    warnings.warn(line, storage.CheckpointWarning, stacklevel=4)
            else:
                manifest = begin(config, directory, command, overwrite)
        if code:
            storage.write(directory / storage.SOURCE, code)
        spec = config.checkpoint or storage.Checkpoint(wall_seconds=None)
        checkpoints = spec.build(directory / storage.CHECKPOINTS)
        yield _Place(config, directory, manifest, checkpoints)


@contextmanager
def _told(problem: Problem, source: Path | None) -> Iterator[None]:
    """Tells errors of the machine and of the user's own file as such."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(str(error).splitlines()[0]) from None
    except Exception as error:
        if source is None or not (lines := told(error, source, problem.place)):
            raise
        raise UsersError(lines) from error


def _compute(config: Config, problem: Problem, **watch: Any) -> Outcome:
    """The runs themselves."""
    arguments = {name: getattr(config.flow, name) for name in type(config.flow).model_fields}
    if config.seeds > 1:
        return _compute_ensemble(config, arguments | watch)
    descent = config.descent
    if descent is None:
        return Outcome(flow.solve(problem, **arguments, **watch), None)
    compared = comparison.compare(
        problem,
        descent.learning_rates,
        optimiser=descent.build(),
        modified=descent.modified_field(),
        drift_limit=descent.drift_limit,
        batch_size=descent.batch_size,
        # Another one than the problem was built from.
        key=jax.random.fold_in(jax.random.key(config.seed), 1),
        **arguments,
        **watch,
    )
    return Outcome(compared.flow, compared)


def _polished(config: Config, problem: Problem, outcome: Outcome, cancelled: Any) -> Outcome:
    """The same with the critical point that the flow goes to, where that was asked for."""
    spec = config.polishing
    if spec is None or outcome.cancelled or outcome.flow.result in flow.FAILURES:
        return outcome
    point = polish(problem, outcome.flow, cancelled=cancelled, **spec.model_dump())
    return outcome._replace(critical_point=point)


def _compute_ensemble(config: Config, arguments: dict[str, Any]) -> Outcome:
    """The runs of all seeds, and what those that are whole say of the task."""
    task = config.problem
    seeds = range(config.seed, config.seed + config.seeds)
    runs = ensemble.solve_ensemble(lambda seed: build(config, seed), seeds, **arguments)
    times: dict[str, dict[str, float | None]] = {}
    invariants: dict[str, float] = {}
    for seed, run in runs.whole.items():
        for name, time in task.phases(run).items():
            times.setdefault(name, {})[str(seed)] = time
        for name, drift in task.invariants(run).items():
            invariants[name] = max(drift, invariants.get(name, 0.0))
    found = {"phases": times, "invariants": invariants}
    record = replace(runs.record, attrs=runs.record.attrs | found, final_params=_stacked(runs))
    return Outcome(record, None, ensemble=runs)


def _claims(task: Task, outcome: Outcome) -> tuple[Claim, ...] | tuple[Tally, ...]:
    if outcome.ensemble is None:
        return task.claims(outcome.flow)
    return tally({seed: task.claims(run) for seed, run in outcome.ensemble.whole.items()})


def _stacked(runs: ensemble.Ensemble) -> Any:
    """The final parameters of all runs, with an axis of seeds before the others."""
    every = [eqx.filter(run.final_params, eqx.is_array) for run in runs.members.values()]
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *every)


def _notes(problem: Problem, trajectory: Trajectory) -> tuple[str, ...]:
    """What went wrong at the start, if that can be told."""
    if not problem.has_loss:
        return ()
    if trajectory.result == "not_finite":
        gradient = jax.value_and_grad(problem.loss)
        where = not_finite(gradient, problem.params, problem.data)
        return (where,) if where else ()
    norm = trajectory.get("grad_norm", np.ones(1))
    if norm.size and norm.ndim == 1 and norm[0] == 0:
        return (
            "the gradient is zero at the initial parameters, and so nothing moves: start elsewhere "
            "(weights that are all zero are a saddle), or use the parameters in the loss"
            + (f" ({problem.place})" if problem.place else ""),
        )
    return ()


def replot(directory: Path) -> list[Path]:
    """Draw a stored run's figures again, from what was recorded.

    Returns:
        The files written.

    Raises:
        StorageError: there is no such run, or it is damaged.
        OSError: a file cannot be written.
        ConfigError: its configuration is not valid any more.
    """
    stored = storage.load(directory)
    shown = of_run(load_config(stored.config).problem, stored)
    return keep(render(shown), directory)


def summarise(task: Task, outcome: Outcome) -> dict[str, Any]:
    """The headline numbers; a key whose part has nothing to say is absent."""
    trajectory, compared, runs = outcome.flow, outcome.comparison, outcome.ensemble
    residual = trajectory.get("energy_residual", np.empty(0))
    residual = np.abs(residual[np.isfinite(residual)])
    drift = trajectory.get("balancedness", np.empty(0))
    drift = drift[np.isfinite(drift)]
    summary: dict[str, Any] = {
        "flow": {
            "t1": trajectory.final_time,
            **({} if (loss := final_loss(trajectory)) is None else {"loss": loss}),
            **{name: value for name, value in trajectory.stats.items() if name != "legs"},
            "result": trajectory.result,
        },
        "phases": {
            name: at._asdict() if isinstance(at, Band) else at
            for name, at in phases(task, trajectory).items()
        },
        "invariants": {
            **({"energy_identity": residual.max()} if len(residual) else {}),
            **({"balancedness": drift.max()} if len(drift) else {}),
            **invariants(task, trajectory),
        },
        "critical_point": (point := outcome.critical_point) and point.summary(),
    }
    if compared is not None:
        summary |= {"descent": comparison.summary(compared), "comparison": compared.record.attrs}
    if runs is not None:
        summary["seeds"] = {"begun": len(runs.members), "whole": len(runs.whole)}
        summary["seeds"] |= {
            name: sum(time is not None for time in times.values())
            for name, times in trajectory.attrs["phases"].items()
        }
        summary["seeds"] |= {"failures": runs.failures} if runs.failures else {}
    summary["notes"] = list(outcome.notes)
    return {key: part for key, part in summary.items() if part}


def final_loss(trajectory: Trajectory) -> float | None:
    """Where it was recorded last; of an ensemble the median."""
    loss = trajectory.get("loss", np.empty(0))
    if not len(loss):
        return None
    return float(band(loss).median[-1] if loss.ndim == 2 else loss[-1])


def _named_arrays(params: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(params, eqx.is_array))
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): fetched(leaf)
        for path, leaf in leaves
    }


def _import_ahead(figures: bool) -> None:
    import netCDF4  # noqa: F401
    import xarray.backends

    xarray.Variable((), 0.0)  # before the first it looks for all kinds of arrays that there are
    if figures:
        import matplotlib.backends.backend_agg
        import matplotlib.backends.backend_pdf
        import matplotlib.backends.backend_svg
        import matplotlib.figure  # noqa: F401
