"""What was measured, as tables and criteria."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.methods import Setting
from benchmarks.problems.reference import errors
from benchmarks.suite import Column, Criterion, Findings, Kind, Table, ratios

from . import descents, flows
from .drift import Drift, order, rate_for
from .flows import Flow
from .race import Race

ERROR = 1e-4  # the worst of the whole run that a flow is to keep to
RATE, STEPS = 0.01, 30_000  # the paper's
_SAME = 1e-9  # by which the ends of one descent may differ, rounding alone


@dataclass(frozen=True)
class Measured:
    """Everything that was measured.

    Attributes:
        setting: the experiment, with its exact flow.
        drifts: descents of several rates, from the longest on.
        ladders: the flow by several methods, from the loosest tolerance on.
        race: wall times.
        ends: where each descent of the race ended, by name.
        by_rate: seconds of the compiled loop by learning rate.
        loss: of a state in one vector.
        target: the exact flow's last loss.
    """

    setting: Setting
    drifts: list[Drift]
    ladders: dict[str, list[Flow]]
    race: Race
    ends: dict[str, np.ndarray]
    by_rate: dict[float, float]
    loss: Callable[[np.ndarray], float]
    target: float

    @property
    def papers(self) -> Drift:
        """The descent with the paper's learning rate."""
        return next(drift for drift in self.drifts if drift.rate == RATE)


def report(measured: Measured, findings: Findings) -> Findings:
    """`findings` with the tables, criteria and the figure's data."""
    findings.tables = [
        _experiment(measured),
        _recording(measured),
        _rates(measured),
        _predicted(measured),
    ]
    findings.criteria = _criteria(measured)
    findings.data = {
        "target": ERROR,
        "flows": {
            name: [flow.point() for flow in ladder] for name, ladder in measured.ladders.items()
        },
        "rates": [
            {"rate": d.rate, "wall": measured.by_rate[d.rate], "worst": d.worst}
            for d in measured.drifts
        ],
        "descents": {
            name: {
                "wall": statistics.median(measured.race.descents[name]),
                "worst": measured.papers.worst,
            }
            for name in measured.ends
        },
    }
    return findings


def _criteria(measured: Measured) -> list[Criterion]:
    def share(descent: str) -> dict[str, float]:
        if descent not in measured.ends:
            return {}
        return {"seed 0": statistics.median(measured.race.share(flows.OWN, descent))}

    one, *others = measured.ends.values()
    start = measured.setting.exact[0]
    apart = {
        name: float(errors([end], [one], start)[0])
        for name, end in zip(list(measured.ends)[1:], others, strict=True)
    }
    flow = f"the flow at a whole-run error of {ERROR:g} / the paper's {STEPS:,} steps"
    return [
        Criterion(f"{flow} by optax, wall", 1 / 50, share(descents.OPTAX)),
        Criterion(f"{flow} by PyTorch, wall", 1 / 100, share(descents.TORCH)),
        Criterion(f"ends of the descents apart from that of {descents.OPTAX}", _SAME, apart),
    ]


def _experiment(measured: Measured) -> Table:
    table = Table(
        f"The paper's experiment to t = {measured.setting.case.t1:g}, its ends recorded",
        (
            Column("run"),
            Column("rtol", Kind.NUMBER),
            Column("gradients", Kind.COUNT),
            Column("error at the end", Kind.ERROR),
            Column("worst error", Kind.ERROR),
            Column("loss at the end", Kind.NUMBER),
            Column("wall", Kind.SECONDS),
            Column("wall per gradient", Kind.SECONDS),
            Column("flow / this", Kind.RATIO),
        ),
        note=f"The flow is `gf.solve`, and every flow at the loosest tolerance of its ladder whose "
        f"worst error is at most {ERROR:g}. The exact flow ends at a loss of "
        f"{measured.target:.6g}. All descents take the same {STEPS:,} steps, whose worst error is "
        "that at whole steps.",
    )
    race = measured.race
    for name, ladder in measured.ladders.items():
        flow = flows.loosest(ladder, ERROR)
        wall = race.flow(name)
        table.add(
            "gf.solve" if name == flows.OWN else name,
            flow.rtol,
            flow.gradients,
            flow.final,
            flow.worst,
            measured.loss(flow.end),
            wall,
            [seconds / flow.gradients for seconds in wall],
            ratios(race.flow(flows.OWN), wall),
        )
    exact = measured.setting.exact
    for name, end in measured.ends.items():
        wall = race.descents[name]
        table.add(
            name,
            None,
            STEPS,
            float(errors([end], exact[-1:], exact[0])[0]),
            measured.papers.worst,
            measured.loss(end),
            wall,
            [seconds / STEPS for seconds in wall],
            race.share(flows.OWN, name),
        )
    return table


def _recording(measured: Measured) -> Table:
    table = Table(
        f"What recording costs: {STEPS:,} steps of `gf.descend`, and `gf.solve` over the same time",
        (
            Column("recorded"),
            Column("descend", Kind.SECONDS),
            Column("descend / compiled loop by hand", Kind.RATIO),
            Column("solve", Kind.SECONDS),
            Column("solve / descend", Kind.RATIO),
        ),
        note="As shipped: at the 200 times of configs/cooccurrence.yaml, with all observables.",
    )
    race, loop = measured.race, measured.race.descents[descents.LOOP]
    for descend in (name for name in race.descents if name.startswith(descents.OWN)):
        what = descend.removeprefix(descents.OWN)
        flow = flows.OWN + what
        table.add(
            what.removeprefix(", ") or "ends only",
            race.descents[descend],
            ratios(race.descents[descend], loop),
            race.flow(flow),
            race.share(flow, descend),
        )
    return table


def _rates(measured: Measured) -> Table:
    table = Table(
        "Descents of several learning rates against the exact flow",
        (
            Column("learning rate"),
            Column("steps", Kind.COUNT),
            Column("error at the end", Kind.ERROR),
            Column("worst error", Kind.ERROR),
            Column("loss at the end", Kind.NUMBER),
            Column("steps to the exact flow's last loss", Kind.COUNT),
            Column("compiled loop by hand", Kind.SECONDS),
        ),
        note=f"The exact flow has its last loss, {measured.target:.6g}, at "
        f"t = {measured.setting.case.t1:g}.",
    )
    for drift in measured.drifts:
        table.add(
            f"{drift.rate:g}",
            drift.steps,
            drift.final,
            drift.worst,
            drift.loss,
            drift.same_loss,
            measured.by_rate[drift.rate],
        )
    return table


def _predicted(measured: Measured) -> Table:
    rate = rate_for(measured.drifts, ERROR)
    steps = measured.setting.case.t1 / rate
    longer, shorter = measured.drifts[-2:]
    table = Table(
        f"Predicted, not run: descent to a whole-run error of {ERROR:g}",
        (
            Column("run"),
            Column("steps", Kind.NUMBER),
            Column("wall", Kind.SECONDS),
            Column("flow / this", Kind.RATIO),
        ),
        note=f"By a learning rate of {rate:.2g}: the worst error falls with the power "
        f"{order(measured.drifts):.2f} of the rate from {longer.rate:g} to {shorter.rate:g}. With "
        f"the first it would be {shorter.steps * shorter.worst / ERROR:,.0f} steps. A step is "
        "taken to last as long as those above.",
    )
    flow = statistics.median(measured.race.flow(flows.OWN))
    for name in measured.ends:
        wall = statistics.median(measured.race.descents[name]) / STEPS * steps
        table.add(name, steps, wall, flow / wall)
    return table
