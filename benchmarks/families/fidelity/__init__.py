"""Family G, fidelity: the error that was asked for against the one that came.

The runs are those of the work-precision diagrams, where these were measured in the same process.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.families import work_precision
from benchmarks.families.work_precision.criteria import own
from benchmarks.families.work_precision.draw import Draw
from benchmarks.families.work_precision.measure import Budget
from benchmarks.families.work_precision.measure import measure as run
from benchmarks.methods import Setting
from benchmarks.methods.fixed_steps import METHODS as FIXED
from benchmarks.methods.own import LEFT_OUT, method
from benchmarks.problems import PROBLEMS
from benchmarks.suite import Column, Criterion, Effort, Family, Findings, Kind, Table

from . import figure, shipped

# Where solvers are run that the work-precision diagrams leave out: small enough for dense ones.
_NEIGHBOURS_ON = ("quadratic-mild", "quadratic", "ode")


def measure(effort: Effort) -> Findings:
    """Every run of every method that follows a tolerance, and gradflow's tasks as shipped."""
    draws = work_precision.drawn(effort)
    skipped = work_precision.chosen(effort)[1]
    once = Budget(repeats=1)
    transformer = Setting.of(PROBLEMS["transformer"], 0)
    tasks = [
        *(each for each in draws if each.case == "transformer"),
        run(transformer, [shipped.STRICTER], once, effort.say),
    ]
    if effort.quick:
        left_out = (*(case.name for case in shipped.CASES), *LEFT_OUT)
        skipped.append(f"with --quick: {', '.join(left_out)}")
    else:
        more = [
            run(Setting.of(case, 0), shipped.METHODS, once, effort.say) for case in shipped.CASES
        ]
        tasks += more
        draws += more
        for name in _NEIGHBOURS_ON:
            methods = [method(name) for name in LEFT_OUT]
            draws.append(run(Setting.of(PROBLEMS[name], 0), methods, once, effort.say))
    ratios = promised(draws)
    ours = set(own(draws))
    criteria = [
        Criterion(
            f"{what}, worst error on the way over the tolerance",
            10.0,
            {
                f"{name}, {where}": ratio
                for name in names
                for where, ratio in ratios.get(name, {}).items()
            },
        )
        for what, names in (("auto", ["auto"]), ("every solver of gradflow's", sorted(ours)))
    ]
    data = [
        (point.method, point.method in ours, point.rung, point.worst)
        for draw in draws
        for point in draw.points
        if point.method in ratios
    ]
    return Findings([overview(ratios, ours), shipped.bought(tasks)], criteria, skipped, data)


def promised(draws: Sequence[Draw]) -> dict[str, dict[str, float]]:
    """The worst error on the way over the tolerance, by method and by run."""
    fixed = {each.name for each in FIXED}
    found: dict[str, dict[str, float]] = {}
    for draw in draws:
        for point in draw.points:
            if point.method not in fixed:
                name = f"{draw.case}, rtol {point.rung:g}"
                found.setdefault(point.method, {})[name] = point.worst / point.rung
    return found


def overview(ratios: dict[str, dict[str, float]], ours: set[str]) -> Table:
    """One row for each method, gradflow's first."""
    table = Table(
        "Worst error on the way over the tolerance",
        (
            Column("method"),
            Column("of"),
            Column("runs", Kind.NUMBER),
            Column("median", Kind.NUMBER),
            Column("worst", Kind.ERROR),
            Column("on", Kind.WORD),
        ),
        note=(
            "Errors are those of the whole parameter vector, relative to the distance travelled, "
            "the largest of 60 times; peers have their own norms, and promise something else."
        ),
    )
    for name, each in sorted(ratios.items(), key=lambda item: item[0] not in ours):
        where = max(each, key=each.__getitem__)
        whose = "gradflow" if name in ours else "peer"
        median = statistics.median(each.values())
        table.add(name, whose, len(each), median, each[where], where)
    return table


def draw(findings: Findings, directory: Path) -> list[Path]:
    """Errors against tolerances, gradflow's beside the peers'."""
    return [figure.save(findings.data, directory)]


FAMILY = Family("fidelity", "G", "does a run err by what was asked for?", measure, draw)
