"""`solve_ensemble`: the flows of many seeds."""

from __future__ import annotations

import inspect
import operator
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, get_args

import jax
import numpy as np

from .._devices import spread
from ..flow import (
    FAILURES,
    RESULTS,
    FlowRun,
    FlowSpec,
    check_tolerance,
    checked,
    identity,
    observed,
    solve,
)
from ..problem import Problem
from ..progress import Shown, shown
from ..solvers import countable
from ..storage import Checkpoints
from ..trajectory import Trajectory
from .batches import Batches
from .finished import Done
from .overview import Overview
from .record import assemble
from .threads import Threads

if TYPE_CHECKING:
    import pandas
    import xarray
    from matplotlib.axes import Axes

Batching = Literal["auto", "threads", "vmap"]

_MOST_LINES = 10


@dataclass(frozen=True)
class Ensemble:
    """The flows of several seeds.

    ``ensemble["loss"]`` is short for ``ensemble.record["loss"]``.

    Attributes:
        members: by seed, every run that began: those that failed, or were cut short, as far as
            they came.
        failures: by seed, why a run failed, or why there is none.
        wall_seconds: what all took together, compilation included.
        compile_seconds: of that, what compilation took while all waited.
        cancelled: whether it was cut short, be it between two seeds.

    >>> import gradflow as gf
    >>> import optax
    >>> def build(seed):
    ...     return gf.Problem(optax.l2_loss, 1.0 + seed, 0.0)
    >>> ensemble = gf.solve_ensemble(build, seeds=2, t1=2.0, save=gf.Linear(count=5))
    >>> list(ensemble.members), ensemble.failures, round(float(ensemble.members[1].final_params), 3)
    ([0, 1], {}, 0.271)
    """

    members: dict[int, Trajectory]
    failures: dict[int, str]
    wall_seconds: float
    compile_seconds: float
    cancelled: bool = False

    @cached_property
    def record(self) -> Trajectory:
        """All runs as one trajectory, with ``seed`` as the last axis of every variable.

        Raises:
            ValueError: they did not record the same.
        """
        return assemble(self.members, self.wall_seconds, self.compile_seconds)

    @property
    def whole(self) -> dict[int, Trajectory]:
        """The runs that neither failed nor were cut short, by seed."""
        short = (*FAILURES, "cancelled")
        return {seed: run for seed, run in self.members.items() if run.result not in short}

    @property
    def findings(self) -> tuple[str, ...]:
        """Which seeds failed and why, a line each; of very many the first."""
        lines = [f"seed {seed} {reason}" for seed, reason in self.failures.items()]
        if len(lines) > _MOST_LINES:
            lines[_MOST_LINES:] = [f"and {len(lines) - _MOST_LINES} seeds more"]
        return tuple(lines)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.record[name]

    @property
    def time(self) -> np.ndarray:
        """The save times, shape ``(n,)``."""
        return self.record.time

    def to_xarray(self) -> xarray.Dataset:
        """The variables as an `xarray.Dataset` with a dimension ``seed``."""
        return self.record.to_xarray()

    def plot(self, *names: str, **options: Any) -> Axes:
        """Draw variables of the record; see `gradflow.plotting.plot`."""
        return self.record.plot(*names, **options)

    def to_dataframe(self) -> pandas.DataFrame:
        """The record as a table; see `gradflow.Trajectory.to_dataframe`."""
        return self.record.to_dataframe()

    def __repr__(self) -> str:
        return (
            f"Ensemble({len(self.members)} seeds, {len(self.failures)} failed, "
            f"{self.wall_seconds:.3g} s)"
        )


@shown
def solve_ensemble(
    build: Callable[[int], Problem],
    seeds: int | Sequence[int],
    *,
    t1: float,
    batching: Batching = "auto",
    at_once: int | None = None,
    checkpoints: Checkpoints | str | PathLike[str] | None = None,
    progress: Shown = None,
    cancelled: Callable[[], bool] | None = None,
    **options: Any,
) -> Ensemble:
    """Solve the flow of one problem for each seed.

    Compiled once, since data and initial parameters of the same shapes are nothing but other
    values. On a CPU seeds run on threads: that is faster than one compiled program for all of
    them, whose every step waits for the seed that needs most (``python -m benchmarks --only
    ensembles``). An accelerator is all but idle with a single one, and all go in one program there.

    Args:
        build: makes the problem of a seed, e.g. ``lambda seed: task.build(jax.random.key(seed))``;
            with the same data for all, ``task.build(jax.random.key(seed), jax.random.key(0))``.
        seeds: all different; or how many, for 0, 1 and so on.
        t1: end time.
        batching: ``"threads"``; or ``"vmap"``, one program for as many seeds as go at once, whose
            functions must be the same and whose arrays must have the same shapes. Each seed takes
            the steps that it takes alone, but for rounding, and the ``wall_seconds`` in its stats
            are those of its whole batch. ``"auto"`` is threads on a CPU, vmap elsewhere; and
            threads for seeds that do not fit together, for solvers that do not count their own
            evaluations, and with `certify`, which reads every run off on its way.
        at_once: seeds at once; on threads, unless given, as many as there are processors. In one
            program all of them: give fewer where memory is short, and each that ends makes room
            for another.
        checkpoints: as in `gradflow.solve`: every run that is done is kept, and on threads the
            state of those under way.
        progress: as in `gradflow.solve`, of all together, by one thread at a time; in one
            program, as the slowest of those under way reports it.
        cancelled: called now and then, from several threads; everything ends when it returns
            true, and is kept.
        **options: all that `gradflow.solve` takes beside these.

    Returns:
        The ensemble. A seed that fails is told of in its ``failures`` and does not lose the
        others.

    Raises:
        ValueError: there is no seed, or one is there twice, or `at_once` is below 1; or, with
            ``"vmap"``, two seeds or an option do not allow it.
        TypeError: `solve` has no such option, or `build` is no function of a seed.
        OtherRunError: the checkpoints are of another ensemble.
        Exception: what the first seed has raised, if none has come to a run.

    Warns:
        CheckpointWarning: a checkpoint could not be read or not be written.
        UserWarning: ``"auto"`` went back to threads, since one program for all had failed.

    >>> import gradflow as gf
    >>> import optax
    >>> def build(seed):
    ...     return gf.Problem(optax.l2_loss, 1.0 + seed, 0.0)
    >>> ensemble = gf.solve_ensemble(build, seeds=2, t1=2.0, save=gf.Linear(count=5))
    >>> ensemble["loss"][0], ensemble["loss"].shape  # (1 + seed)^2 / 2
    (array([0.5, 2. ]), (5, 2))
    """
    if not callable(build):
        raise TypeError(
            f"build must be a function of a seed, got {build!r}; of a task pass "
            "lambda seed: task.build(jax.random.key(seed))"
        )
    seeds = checked_seeds(seeds)
    if at_once is not None and at_once < 1:
        raise ValueError(f"at_once = {at_once} must be 1 at least; None for as many as fit")
    options = {"t1": t1, **options}
    call = inspect.signature(solve).bind(None, **options)
    call.apply_defaults()

    def build_problem(seed: int) -> Problem:
        problem = build(seed)
        if not isinstance(problem, Problem):
            raise TypeError(f"build must return a gradflow.Problem, got {problem!r}")
        if spread((problem.params, problem.data)):
            raise ValueError(
                "the problem of a seed lies on several devices, and seeds run on one each; pass "
                "problems that gradflow.Mesh has not placed, or solve them one after the other"
            )
        return problem

    began = clock.perf_counter()
    overview = Overview(len(seeds), progress if callable(progress) else None, cancelled)
    done = Done(
        build_problem,
        Checkpoints.of(checkpoints),
        lambda: _identity(build_problem, seeds[0], call.arguments),
    )
    outcomes: dict[int, Trajectory | Exception] = dict(done.before(seeds))
    for seed in outcomes:
        overview.end(seed)
    left, compile_seconds = [seed for seed in seeds if seed not in outcomes], 0.0
    if left and _in_batches(batching, call.arguments):
        # As many as in a run that was never cut: of another size, programs round otherwise.
        size = min(at_once or len(seeds), len(seeds))
        begin = _beginning(call.arguments)
        batches = Batches(build_problem, begin, size, overview, done, strict=batching == "vmap")
        left = batches.all(left)
        outcomes |= batches.outcomes
        compile_seconds = batches.compile_seconds
        at_once = None
    if left and not (outcomes and overview.ends()):
        found = Threads(build_problem, options, overview, done).all(left, at_once)
        outcomes |= found
        if isinstance(first := found[left[0]], Trajectory):  # while the others waited
            compile_seconds += first.stats["compile_seconds"]
    done.close()
    members, failures = _sorted_out(seeds, outcomes)
    short = any(run.result == "cancelled" for run in members.values())
    return Ensemble(
        members,
        failures,
        clock.perf_counter() - began,
        compile_seconds,
        cancelled=short or len(outcomes) < len(seeds),
    )


def _sorted_out(
    seeds: Sequence[int], outcomes: Mapping[int, Trajectory | Exception]
) -> tuple[dict[int, Trajectory], dict[int, str]]:
    """The runs, and why others failed, by seed.

    Raises:
        Exception: what the first seed has raised, if none has come to a run.
    """
    members, failures = {}, {}
    for seed in seeds:
        outcome = outcomes.get(seed)
        if isinstance(outcome, Trajectory):
            members[seed] = outcome
            if outcome.result in FAILURES:
                reason = RESULTS[outcome.result]
                failures[seed] = f"failed at t = {outcome.final_time:.6g}: {reason}"
        elif outcome is not None:
            failures[seed] = f"failed with {type(outcome).__name__}: {outcome}"
    if not members:
        for seed in seeds:
            if isinstance(error := outcomes.get(seed), Exception):
                raise error
    return members, failures


def checked_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """The seeds of an ensemble, given as `solve_ensemble` takes them.

    Raises:
        ValueError: there is none, or one is there twice.
        TypeError: one is no whole number.
    """
    every = range(seeds) if isinstance(seeds, int) else seeds
    seeds = tuple(operator.index(seed) for seed in every)
    if not seeds:
        raise ValueError("there are no seeds; give one at least, e.g. range(10)")
    if len(set(seeds)) < len(seeds):
        twice = next(seed for i, seed in enumerate(seeds) if seed in seeds[:i])
        raise ValueError(f"seed {twice} is there twice; all must differ, or it would count twice")
    return seeds


def _in_batches(batching: Batching, arguments: Mapping[str, Any]) -> bool:
    """Whether seeds go in one program, given all arguments of `solve`."""
    if batching not in get_args(Batching):
        raise ValueError(f"batching = {batching!r} must be one of {', '.join(get_args(Batching))}")
    if batching == "threads":
        return False
    obstacle = None
    if arguments["certify"]:
        obstacle = "certify reads every run off on its way"
    elif not countable(arguments["solver"], arguments["rtol"]):
        obstacle = "this solver does not count its evaluations, and the host cannot for each seed"
    if batching == "auto":
        return obstacle is None and _accelerated()
    if obstacle is not None:
        raise ValueError(f"batching = 'vmap': {obstacle}; take 'auto' or 'threads'")
    return True


def _accelerated() -> bool:
    """Whether new arrays are on an accelerator, as a context may have it for this thread alone."""
    (device,) = jax.device_put(np.zeros(())).devices()
    return device.platform != "cpu"


def _beginning(arguments: Mapping[str, Any]) -> Callable[[Problem], FlowRun]:
    """Makes the run of a problem, given all other arguments of `solve`."""
    solver, observables = arguments["solver"], arguments["observables"]
    spec = _spec_of(arguments)

    def begin(problem: Problem) -> FlowRun:
        check_tolerance(spec.rtol, problem.dtype)
        return FlowRun(problem, spec, solver, observed(problem, spec, observables), alone=False)

    return begin


def _spec_of(arguments: Mapping[str, Any]) -> FlowSpec:
    others = ("problem", "observables", "checkpoints", "progress", "cancelled")
    return checked(**{name: arguments[name] for name in arguments if name not in others})


def _identity(
    build: Callable[[int], Problem], seed: int, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """What an ensemble was told but for its seeds, of which there may be more next time."""
    spec = _spec_of(arguments)
    try:
        problem = build(seed)
        what = observed(problem, spec, arguments["observables"])
    except Exception as error:  # which is told of when its run is begun
        return {"seed": seed, "failed": type(error).__name__}
    return identity(problem, spec, arguments["solver"], what) | {"seed": seed}
