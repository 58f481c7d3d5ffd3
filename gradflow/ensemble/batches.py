"""The runs of an ensemble in lockstep, many in one compiled program."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import equinox as eqx
from jax.tree_util import keystr, tree_leaves_with_path

from ..flow import FlowRun, Lanes
from ..problem import Problem
from ..progress import Progress
from ..trajectory import Trajectory
from .finished import Done
from .overview import Overview


class Batches:
    """Advances the runs of all seeds, so many at once, each solver's in its own lanes.

    A run that ends makes room for the next seed; one that changes its solver changes lanes.

    Args:
        build: makes the problem of a seed.
        begin: makes its run, which does not advance by itself.
        size: runs at once.
        overview: of all runs.
        done: told of every run that is done.
        strict: whether it is an error that seeds cannot be solved so; else they are left.

    Attributes:
        outcomes: what came of each seed, but of those left.
        compile_seconds: what the compilation took, while all waited.
    """

    def __init__(
        self,
        build: Callable[[int], Problem],
        begin: Callable[[Problem], FlowRun],
        size: int,
        overview: Overview,
        done: Done,
        strict: bool,
    ):
        self._build, self._begin, self._size = build, begin, size
        self._overview, self._done, self._strict = overview, done, strict
        self._first: tuple[int, Problem] | None = None
        self._seeds: dict[FlowRun, int] = {}  # of the runs under way
        self._lanes: dict[str, Lanes] = {}  # by the solver's name
        self._last: tuple[int, Progress] | None = None  # that ended, and its report
        self.outcomes: dict[int, Trajectory | Exception] = {}
        self.compile_seconds = 0.0

    def all(self, seeds: Sequence[int]) -> list[int]:
        """Solve for all seeds, or until all is ended.

        Returns:
            The seeds that are left: their problems do not fit in with the first one's, or, with
            a warning, nothing can be solved so.

        Raises:
            ValueError: where `strict`, and naming two seeds: their problems do not fit together.
        """
        waiting, left = deque(seeds), []
        while waiting or self._seeds:
            try:
                left += self._admit(waiting)
                self._advance()
            except Exception as error:
                if self._strict:
                    raise
                warnings.warn(
                    "the seeds run on threads, since one program for all failed with "
                    f"{type(error).__name__}: {error}",
                    stacklevel=3,
                )
                return [seed for seed in seeds if seed not in self.outcomes]
            self._tell()
            if self._overview.ends():
                self._cut()
                break
        return left

    def _admit(self, waiting: deque[int]) -> list[int]:
        """Begin with as many as there is room for; returns those that do not fit in."""
        left = []
        while waiting and len(self._seeds) < self._size:
            # One is begun in any case: there is always something to show.
            if self._seeds and self._overview.ends():
                break
            seed = waiting.popleft()
            try:
                problem = self._build(seed)
                run = self._begin(problem)
            except Exception as error:
                self.outcomes[seed] = error
                self._overview.end(seed)
                continue
            if self._first is None:
                self._first = seed, problem
            elif not self._lanes[run.solver].fits(run):
                if self._strict:
                    raise ValueError(_misfit(*self._first, seed, problem))
                left.append(seed)
                continue
            self._seeds[run] = seed
            self._enter(run)
        return left

    def _enter(self, run: FlowRun) -> None:
        if run.solver in self._lanes:
            self._lanes[run.solver].enter(run)
            return
        lanes = Lanes(run, self._size)
        run.compile_seconds += lanes.compile_seconds
        self.compile_seconds += lanes.compile_seconds if self._lanes else run.compile_seconds
        self._lanes[run.solver] = lanes

    def _advance(self) -> None:
        """Go on for a moment."""
        for lanes in tuple(self._lanes.values()):
            for run in lanes.advance():
                if run.result is None:
                    run.change_solver()
                    self._enter(run)
                else:
                    self._finish(run)

    def _finish(self, run: FlowRun) -> None:
        """What comes of a run that has ended."""
        seed, report = self._seeds.pop(run), run.progress()
        self._last = seed, replace(report, fraction=1.0)
        self._overview.note(seed, 1.0, report.gradient_evaluations)
        try:
            self.outcomes[seed] = found = run.trajectory()
            self._done.note(seed, found)
        except Exception as error:
            self.outcomes[seed] = error

    def _tell(self) -> None:
        """How far all are, with what the slowest of them reports."""
        if not self._overview.wanted:
            return
        slowest, least = None, 1.0
        for lanes in self._lanes.values():
            for run, (fraction, evaluations) in lanes.standings().items():
                self._overview.note(self._seeds[run], fraction, evaluations)
                if slowest is None or fraction < least:
                    slowest, least = (lanes, run), fraction
        if slowest is not None:
            lanes, run = slowest
            self._overview.tell(self._seeds[run], lanes.progress(run))
        elif self._last is not None:
            self._overview.tell(*self._last)

    def _cut(self) -> None:
        """All that are under way end here."""
        for lanes in self._lanes.values():
            for run in lanes.runs():
                lanes.leave(run)
                run.end("cancelled")
                self._finish(run)


def _misfit(seed: int, problem: Problem, other_seed: int, other: Problem) -> str:
    """Why the problems of two seeds cannot be solved by one program."""
    return (
        f"seeds {seed} and {other_seed} do not fit in one batch: {_difference(problem, other)}; "
        "batching='threads' takes any problems"
    )


def _difference(problem: Problem, other: Problem) -> str:
    """The first thing in which two problems differ, but for the values of their arrays."""
    mine, its = (
        {keystr(path).lstrip("._"): leaf for path, leaf in tree_leaves_with_path(each)}
        for each in (problem, other)
    )
    for path in mine | its:
        if path not in mine or path not in its:
            return f"only one has {path}, and both must have the same structure"
        one, another = mine[path], its[path]
        if eqx.is_array(one) and eqx.is_array(another):
            if (one.shape, one.dtype) != (another.shape, another.dtype):
                return (
                    f"{path} is {one.dtype} of shape {one.shape} in one, {another.dtype} of shape "
                    f"{another.shape} in the other"
                )
        elif one != another:
            return f"{path} is not the same in both, and must be defined once, outside of build"
    return "their functions are not the same, and must be defined once, outside of build"
