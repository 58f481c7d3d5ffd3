"""Family B, stiffness: what a run costs as its horizon or its sharpness grows.

Where stability sets the steps, an explicit method pays for each unit of sharpness times time, and
a Runge-Kutta-Chebyshev method of s stages, stable to about s^2 / 1.54 of it, for the square root.
Slopes are fitted to the logarithms by least squares.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from scipy.stats import linregress

from benchmarks.methods import METHODS, MISSING, Setting
from benchmarks.problems import PROBLEMS, Case
from benchmarks.problems.quadratics import of_condition
from benchmarks.problems.reference import reference
from benchmarks.suite import Column, Criterion, Effort, Family, Findings, Kind, Table

from .work_precision.figures import style

RTOL = 1e-3
_METHODS = ("tsit5", "diffrax Tsit5", "kvaerno3-cg", "rkc2", "auto", "extensisq SSV2stab")
_HORIZONS = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)
_CONDITIONS = (1e2, 1e3, 1e4, 1e5, 1e6)
_ROUNDS = 3
_LONG = 1.0  # seconds; slower runs are timed once


# A run: method, horizon or sharpness, gradients, error at the end, seconds of every round.
Run = tuple[str, float, int, float, list[float]]


def measure(effort: Effort) -> Findings:
    """Both series, of every method at one tolerance."""
    methods = [name for name in _METHODS if name in METHODS]
    shares = effort.pick(_HORIZONS, _HORIZONS[:3])
    conditions = effort.pick(_CONDITIONS, _CONDITIONS[:4])
    quadratics = {0.1 * condition: of_condition(condition) for condition in conditions}
    series = {
        "horizon": _series(_horizons(PROBLEMS["mlp"], shares), methods, effort),
        "sharpness": _series(
            {top: _setting(case, case.times()) for top, case in quadratics.items()}, methods, effort
        ),
    }
    fits = {name: _fits(runs) for name, runs in series.items()}
    criterion = Criterion(
        "slope of gradients against sharpness",
        0.6,
        {name: fits["sharpness"][name][0] for name in ("rkc2", "auto")},
    )
    skipped = [f"{name}: {reason}" for name, reason in MISSING.items() if name in _METHODS]
    if effort.quick:
        skipped.append("with --quick: the longest horizons and the largest condition number")
    tables = [_slopes(fits), *(_table(name, runs) for name, runs in series.items())]
    return Findings(tables, [criterion], skipped, series)


def _setting(case: Case, times: np.ndarray, exact: np.ndarray | None = None) -> Setting:
    """The first draw, without the sharpness, which none of these methods is told."""
    if exact is None:
        exact = reference(case, 0, times)
    return Setting(case, 0, case.build(0, "float64"), times, exact, np.full(len(times), np.nan))


def _horizons(case: Case, shares: Sequence[float]) -> dict[float, Setting]:
    """A case to shares of its end time, by end time; the longest one's reference serves all."""
    cases = [replace(case, t1=share * case.t1) for share in shares]
    times = np.unique(np.concatenate([each.times() for each in cases]))
    exact = reference(cases[-1], 0, times)
    return {
        each.t1: _setting(each, each.times(), exact[np.searchsorted(times, each.times())])
        for each in cases
    }


def _series(settings: dict[float, Setting], methods: Sequence[str], effort: Effort) -> list[Run]:
    """All methods on all settings; rounds alternate between the methods."""
    found: list[Run] = []
    for at, setting in settings.items():
        runs = {}
        for name in methods:
            run = METHODS[name].run(setting, RTOL)
            runs[name] = (name, at, run.evaluations, setting.error(run.states).final, [run.seconds])
            effort.say(f"{at:g} {name}: {run.evaluations:,} gradients, {run.seconds:.3g} s")
        for _ in range(effort.pick(_ROUNDS, 2) - 1):
            for name, (*_, seconds) in runs.items():
                if seconds[0] < _LONG:
                    seconds.append(METHODS[name].run(setting, RTOL).seconds)
        found += runs.values()
    return found


def _fits(runs: Sequence[Run]) -> dict[str, list[float]]:
    """By method the slope of log gradients, its standard error, both of log seconds, and the
    largest error, without which a cost says nothing.
    """
    found = {}
    for method in dict.fromkeys(name for name, *_ in runs):
        mine = [run for run in runs if run[0] == method]
        at = np.log([run[1] for run in mine])
        costs = [run[2] for run in mine], [statistics.median(run[4]) for run in mine]
        fits = [linregress(at, np.log(cost)) for cost in costs]
        numbers = [float(number) for fit in fits for number in (fit.slope, fit.stderr)]
        found[method] = [*numbers, max(run[3] for run in mine)]
    return found


def _slopes(fits: dict[str, dict[str, list[float]]]) -> Table:
    table = Table(
        f"Slopes of the cost, at rtol {RTOL:g}",
        (
            Column("method"),
            Column("against"),
            Column("gradients", Kind.NUMBER),
            Column("+-", Kind.NUMBER),
            Column("seconds", Kind.NUMBER),
            Column("+- ", Kind.NUMBER),
            Column("largest error", Kind.ERROR),
        ),
        note=(
            "In log-log, with standard errors. Where stability alone sets the steps theory has 1 "
            "for explicit methods and 1/2 for Chebyshev's; against the horizon more steps are "
            "taken too."
        ),
    )
    for against, methods in fits.items():
        for method, numbers in methods.items():
            table.add(method, against, *numbers)
    return table


def _table(against: str, runs: Sequence[Run]) -> Table:
    titles = {
        "horizon": "mlp to growing end times",
        "sharpness": "Quadratics of growing sharpness, their smallest eigenvalue 0.1, to t = 10",
    }
    table = Table(
        titles[against],
        (
            Column("method"),
            Column(against),
            Column("gradients", Kind.COUNT),
            Column("error at the end", Kind.ERROR),
            Column("seconds", Kind.SECONDS),
        ),
    )
    for method, at, *rest in runs:
        table.add(method, f"{at:g}", *rest)
    return table


def draw(findings: Findings, directory: Path) -> list[Path]:
    """Gradients against horizon and sharpness, slopes in the legends."""
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    labels = {"horizon": "end time of mlp", "sharpness": "sharpness of a quadratic"}
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (against, runs) in zip(axes, findings.data.items(), strict=True):
        for method, (slope, error, *_) in _fits(runs).items():
            at, costs = np.array([run[1:3] for run in runs if run[0] == method], dtype=float).T
            label = rf"{method} {slope:.2f} $\pm$ {error:.2f}"
            ax.plot(at, costs, **style(method) | {"label": label})
        ax.set(xscale="log", yscale="log", xlabel=labels[against])
        ax.grid(color="0.9", lw=0.5)
        ax.spines[["top", "right"]].set_visible(False)
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=8,
            columnspacing=1.0, handlelength=1.6, handletextpad=0.5,
        )  # fmt: skip
    ends = sorted({run[1] for run in findings.data["horizon"]})
    axes[0].set_xticks(ends, [f"{end:,.0f}" for end in ends])
    axes[0].set_ylabel("gradient evaluations")
    path = directory / "stiffness.png"
    figure.savefig(path, dpi=150)
    return [path]


FAMILY = Family("stiffness", "B", "how do costs grow with horizon and sharpness?", measure, draw)
