"""All runs of a comparison, side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import diffrax
import jax
import numpy as np

from .. import spectra
from .._linalg import Separation, separation
from ..descent import DescentRun, Optimiser, initial_sharpness
from ..fields import FieldSpec
from ..flow import Certificate, FlowRun, FlowSpec, observed
from ..flow.spec import NEVER
from ..observables import DISSIPATED, ENERGY, Observables
from ..problem import Problem
from ..progress import Progress, Watch
from ..recording import Group, grouped
from ..trajectory import Trajectory
from .lattice import explicit, lattice
from .record import assemble, check_names
from .report import findings, numbers, stability

# The share of a sharpness that its residual may be: the error of the value goes with its square.
_WELL_KNOWN = 0.03

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Comparison:
    """A flow and descents, and how far they are apart.

    ``comparison["drift"]`` is short for ``comparison.record["drift"]``.

    Attributes:
        flow: the flow's trajectory, at the save times asked for.
        descents: the descents' trajectories, in the order of the learning rates.
        record: the comparison as a trajectory, over the axes ``time`` and ``learning_rate``: see
            `gradflow.comparison.record.assemble`.
        findings: what it shows, a line each.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> compared = gf.compare(problem, [0.1, 0.05], t1=2.0, save=gf.Linear(count=5))
    >>> compared.record.variables["drift"].dims, compared["drift"].shape
    (('time', 'learning_rate'), (5, 2))
    >>> [descent.result for descent in compared.descents]
    ['end_time', 'end_time']
    """

    flow: Trajectory
    descents: tuple[Trajectory, ...]
    record: Trajectory
    findings: tuple[str, ...]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.record[name]

    @property
    def time(self) -> np.ndarray:
        """The times of comparison, shape ``(k,)``."""
        return self.record.time

    def plot(self, *names: str, **options: Any) -> Axes:
        """Draw variables of the record; see `gradflow.plotting.plot`."""
        return self.record.plot(*names, **options)

    def to_dataframe(self) -> pandas.DataFrame:
        """The record as a table; see `gradflow.Trajectory.to_dataframe`."""
        return self.record.to_dataframe()


# From the flow, and from the modified flow.
Apart = tuple[Separation | None, Separation | None]
_UNKNOWN = (np.nan,) * len(Separation._fields)


def _pair(known: list[bool], apart: np.ndarray) -> Apart:
    one, other = (
        Separation(*row) if there else None for there, row in zip(known, apart, strict=True)
    )
    return one, other


@dataclass
class Rate:
    """What belongs to one learning rate."""

    descent: DescentRun
    modified: FlowRun | None
    plain: bool


class Lockstep:
    """All runs of a comparison, side by side."""

    def __init__(
        self,
        problem: Problem,
        spec: FlowSpec,
        solver: str | diffrax.AbstractSolver,
        observables: Observables,
        ends: list[tuple[float, int]],
        modified: Callable[[float], FieldSpec] | None,
    ):
        self._problem, self._spec, self._solver, self._modified = problem, spec, solver, modified
        asked = observed(problem, spec, observables)
        what = observed(problem, spec, observables, (spectra.sharpness(),))
        check_names(what)
        # Another quantity of that name may be a user's; beside ours is its residual.
        parts = {part.name for o in what for part in o.variables}
        self._own_sharpness = "sharpness_residual" in parts
        self._ends = ends
        rates, most = [rate for rate, _ in ends], [count for _, count in ends]
        groups = grouped(spec.save, spec.save_each, what)
        self._groups = groups
        self._lattices = {g.axis: lattice(g.save, spec.t1, rates, most) for g in groups}
        self._main = self._lattices[groups[0].axis]
        # Of each row and rate how far the two were apart, and how many of these are known.
        nothing = [(None, None)] * len(ends)
        self._rows: list[list[Apart]] = [list(nothing) for _ in self._main.matched]
        self._measured = self._certified = 0
        # The flow records all groups at the times of all descents too.
        every = {
            o.name: explicit(self._lattices[group.axis].flow)
            for group in groups
            for o in group.observables
        }
        flow = {"save": explicit(self._main.flow), "save_each": every, "stop": spec.stop}
        self._flow_spec = spec.model_copy(update=flow)
        self._flow = FlowRun(problem, self._flow_spec, solver, what, keep_step=True)
        self._certificate = Certificate(problem, self._flow_spec, asked) if spec.certify else None

    def begin(self, optimiser: Optimiser, batch_size: int | None, key: Any) -> None:
        """Make the descents ready, and their modified flows."""
        groups = tuple(self._of_descents(group) for group in self._groups)
        self._rates: list[Rate] = []
        self._sharpness = float("nan")
        for rate, count in self._ends:
            descent = DescentRun(
                self._problem, optimiser, rate, count, groups, self._spec.t1, batch_size, key
            )
            if not self._rates:
                self._sharpness = self._sharpness_at_start(descent)
            plain = descent.check_rate(self._sharpness)
            self._rates.append(Rate(descent, self._modified_run(rate), plain))

    def _sharpness_at_start(self, descent: DescentRun) -> float:
        """As it is recorded, if that is so and if it is well known there."""
        names = ("sharpness", "sharpness_residual")
        value, residual = map(descent.recorded_at_start, names)
        if value is None or residual is None or not residual <= _WELL_KNOWN * value:
            return initial_sharpness(self._problem)
        return value

    def _of_descents(self, group: Group) -> Group:
        kept = tuple(o for o in group.observables if o is not DISSIPATED and o is not ENERGY)
        return replace(
            group,
            save=explicit(self._lattices[group.axis].times),
            observables=kept,
        )

    def _modified_run(self, rate: float) -> FlowRun | None:
        if self._modified is None:
            return None
        ends = explicit(np.array([0.0, self._spec.t1]))
        update = {"field": self._modified(rate), "save": ends, "save_each": {}, "stop": NEVER}
        spec = self._spec.model_copy(update=update)
        return FlowRun(self._problem.without_events(), spec, "auto", (), keep_step=True)

    def state(self) -> dict[str, Any]:
        """All that `restore` goes on from, as `gradflow.storage` keeps it."""
        pairs = [pair for row in self._rows for pair in row]
        modified = [rate.modified for rate in self._rates if rate.modified is not None]
        return {
            "flow": self._flow.state(),
            "certificate": self._certificate and self._certificate.state(),
            "descents": [rate.descent.state() for rate in self._rates],
            "modified": [run.state() for run in modified],
            "measured": self._measured,
            "certified": self._certified,
            "known": np.array([[one is not None for one in pair] for pair in pairs]),
            "apart": np.array(
                [[_UNKNOWN if one is None else one for one in pair] for pair in pairs]
            ),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of a comparison that was told the same, as if it was never cut.

        Raises:
            ValueError: the state is of another comparison.
        """
        self._flow.restore(state["flow"])
        if self._certificate is not None:
            self._certificate.restore(state["certificate"])
        modified = iter(state["modified"])
        for rate, descent in zip(self._rates, state["descents"], strict=True):
            rate.descent.restore(descent)
            if rate.modified is not None:
                rate.modified.restore(next(modified))
        self._measured, self._certified = state["measured"], state["certified"]
        pairs = iter(zip(state["known"].tolist(), state["apart"], strict=True))
        self._rows = [
            [_pair(*next(pairs)) for _ in row]
            for row in self._rows[: len(state["known"]) // len(self._rates)]
        ]

    def overall(self, progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """Reports of single runs, with the share of all descents' steps that lie behind."""
        total = sum(count for _, count in self._ends)

        def tell(report: Progress) -> None:
            done = sum(rate.descent.step for rate in self._rates)
            progress(replace(report, fraction=done / total))

        return tell

    def go(self, watch: Watch, checkpoints: Checkpoints | None = None) -> None:
        """Run all to the end, or to where the flow or whoever watches ends it.

        Args:
            watch: whoever looks on.
            checkpoints: where the state of all is kept.
        """
        steps, matched = self._main.steps, self._main.matched
        asked = deque(checkpoints.times(self._spec.t1, self._flow.time) if checkpoints else ())
        # In the order of their times, which near the end need not be that of the rows.
        order = np.argsort(matched, axis=None, kind="stable").tolist()
        for place in order[self._measured :]:
            i, j = divmod(place, len(self._rates))
            time = float(matched[i, j])
            self._certify(watch, time)
            row = self._measure(self._rates[j], int(steps[i, j]), time, watch)
            if self._over(time):
                del self._rows[i:]
                break
            self._rows[i][j] = row
            self._measured += 1
            if checkpoints is not None and asked and asked[0] <= time:
                asked.popleft()
                checkpoints.keep(self.state, now=True)
        self._certify(watch)
        self._finish(watch)
        if checkpoints is not None:
            checkpoints.keep(self.state, now=checkpoints.number > 0)

    def _certify(self, watch: Watch, until: float = np.inf) -> None:
        """Hold the flow against its shadow at its save times up to `until`."""
        if self._certificate is None:
            return
        times = self._main.flow.tolist()
        while self._certified < len(times) and (time := times[self._certified]) <= until:
            if self._over(time):
                return
            watch.reach(self._flow, time)
            self._certificate.look(self._flow, time, watch)
            self._certified += 1

    def _over(self, time: float) -> bool:
        """Whether the flow ended before `time`, or anything was cancelled."""
        flow = self._flow
        early = flow.result is not None and flow.time < flow.rounded(time)
        return early or any(run.result == "cancelled" for run in self._runs())

    def _runs(self) -> list[FlowRun | DescentRun]:
        pairs = [(rate.descent, rate.modified) for rate in self._rates]
        return [self._flow, *(run for pair in pairs for run in pair if run is not None)]

    def _finish(self, watch: Watch) -> None:
        """What is left after the last time of comparison: less than a step of the largest rate."""
        if not self._over(0.0):
            watch.reach(self._flow)
            for rate in self._rates:
                if self._flow.result == "end_time":
                    watch.reach(rate.descent, rate.descent.steps)
                else:
                    watch.reach(rate.descent, self._flow.time // rate.descent.learning_rate)
                    rate.descent.end("flow_ended")
        for run in self._runs():
            run.end("cancelled")

    def _measure(
        self, rate: Rate, step: int, time: float, watch: Watch
    ) -> tuple[Separation | None, Separation | None]:
        """How far the descent is from the flow and its modified flow; ``None`` if one ended."""
        watch.reach(self._flow, time)
        if self._over(time):
            return None, None
        watch.reach(rate.descent, step)
        if rate.descent.step != step or rate.descent.result in ("diverged", "not_finite"):
            return None, None
        origin, params = self._problem.params, rate.descent.params
        found: list[Separation | None] = []
        for flow in (self._flow, rate.modified):
            if flow is not None:
                watch.reach(flow, time)
            there = None if flow is None else flow.at(time)
            apart = None if there is None else separation(params, there, origin)
            found.append(jax.device_get(apart))
        return found[0], found[1]

    def comparison(self, watch: Watch, drift_limit: float) -> Comparison:
        """What came of it."""
        if self._certificate is not None:
            flow = self._certificate.attach(self._flow, watch)
        else:
            flow = self._flow.trajectory()
        descents = tuple(rate.descent.trajectory() for rate in self._rates)
        rates = [rate for rate, _ in self._ends]
        plain = [rate.plain for rate in self._rates]
        # Where descent is unstable on the way, there is no power of the rate to be found.
        recorded = flow["sharpness"] if self._own_sharpness else np.empty(0)
        most = float(np.max(recorded[np.isfinite(recorded)], initial=self._sharpness))
        stable = [
            r for r, is_plain in zip(rates, plain, strict=True) if not is_plain or r * most <= 2
        ]
        record = assemble(rates, self._lattices, self._rows, flow, descents, stable)
        record.attrs["sharpness"] = self._sharpness
        looked = [is_plain and self._own_sharpness for is_plain in plain]
        record.attrs["stability"] = stability(rates, looked, flow, descents)
        record.attrs.update(numbers(record, drift_limit))
        told = findings(record, descents, plain, self._spec.rtol)
        record.attrs["findings"] = told
        nominal = {axis: each.nominal for axis, each in self._lattices.items()}
        return Comparison(flow.at_times(nominal), descents, record, told)
