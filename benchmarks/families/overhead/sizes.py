"""Wall time for one gradient inside of a solver, over sizes and precisions."""

from __future__ import annotations

import statistics

import diffrax

import gradflow as gf
from benchmarks.problems import PROBLEMS
from benchmarks.suite import Column, Criterion, Effort, Kind, Table, ratios

from .networks import SAMPLES, WIDTHS, network
from .runs import Run, alternating, bare, by_diffrax, solving

PAPER = "the paper's transformer"
_SOLVERS = {"bosh3": 3, "tsit5": 6, "rkc2": 3}  # evaluations of an attempt, about
_SECONDS = 0.3  # that a run is to take, about
_QUICK = {"float64": (10**3, 10**5), "float32": ()}
_MANY = 1e5  # parameters from which on the gradient is to be nearly all

COLUMNS = (
    Column("network"),
    Column("precision"),
    Column("solver"),
    Column("parameters", Kind.COUNT),
    Column("attempts", Kind.NUMBER),
    Column("a bare gradient", Kind.SECONDS),
    Column("a gradient inside", Kind.SECONDS),
    Column("ratio", Kind.RATIO),
)


def measure(effort: Effort) -> tuple[Table, list[Criterion]]:
    """The table, and what it must show."""
    table = Table(
        f"A gradient inside of a solver, {SAMPLES} samples, over a bare one",
        COLUMNS,
        note=(
            "Runs of about a third of a second, end only, after compilation; solver and bare "
            "gradient by turns. diffrax's Tsit5 is `diffeqsolve` with its default norm."
        ),
    )
    for dtype in ("float64", "float32"):
        for size in effort.pick(WIDTHS, _QUICK[dtype]):
            _add(table, f"tanh, about {size:,}", network(WIDTHS[size], dtype), dtype, 1e3, effort)
        _add(table, PAPER, PROBLEMS["transformer"].build(0, dtype), dtype, 300.0, effort)
    return table, _criteria(table)


def _add(
    table: Table, name: str, problem: gf.Problem, dtype: str, t1: float, effort: Effort
) -> None:
    """A row for each solver."""
    effort.say(f"overhead: {name}, {dtype}")
    alone = bare(problem, _SECONDS / 3)
    each = alone()
    attempts = {s: int(min(max(_SECONDS / each / p, 3), 200)) for s, p in _SOLVERS.items()}
    ends = gf.Explicit(times=[0.0, t1])
    runs: dict[str, Run] = {"bare": alone}
    for solver, count in attempts.items():
        runs[solver] = solving(problem, solver, count, ends, t1)
    runs["diffrax Tsit5"] = by_diffrax(problem, diffrax.Tsit5(), attempts["tsit5"], t1)
    rounds = 1 if each > _SECONDS else effort.pick(7, 3)
    said = alternating(runs, rounds)
    base = said.pop("bare")
    for solver, seconds in said.items():
        count = attempts.get(solver, attempts["tsit5"])
        table.add(name, dtype, solver, problem.size, count, base, seconds, ratios(seconds, base))


def _criteria(table: Table) -> list[Criterion]:
    found = {
        (network, f"{network}, {dtype}, {solver}", size): statistics.median(ratio)
        for network, dtype, solver, size, _, _, _, ratio in table.rows
        if not solver.startswith("diffrax")
    }
    large = {row: r for (name, row, n), r in found.items() if name != PAPER and n >= 0.9 * _MANY}
    paper = {row: r for (name, row, _), r in found.items() if name == PAPER}
    what = "a gradient inside of a solver over a bare one"
    return [
        Criterion(f"{what}, 1e5 parameters or more", 1.15, large),
        Criterion(f"{what}, the paper's size", 1.5, paper),
    ]
