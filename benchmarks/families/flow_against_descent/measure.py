"""Measures the paper's experiment by every descent and every flow."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

import gradflow as gf
from benchmarks.methods import MISSING, RunFailedError, Setting, absence
from benchmarks.problems import PROBLEMS, unflat
from benchmarks.problems.reference import reference
from benchmarks.suite import Effort, Findings, seconds

from . import descents, flows
from .drift import Drift, drift, moments
from .flows import Flow
from .race import Race, race
from .report import ERROR, RATE, STEPS, Measured, report

# What is recorded beside the ends, by descents and flows alike.
_TIMES = gf.Logarithmic(count=200, start=1e-3)  # of configs/cooccurrence.yaml
# Each is a multiple of all after it. The drift shows its order far below the paper's rate only.
_RATES, _QUICK_RATES = (0.02, RATE, 0.005, 0.0025, 0.00125), (RATE, 0.005)


def measure(effort: Effort) -> Findings:
    """Everything that `report` tells."""
    findings = Findings()
    rates = effort.pick(_RATES, _QUICK_RATES)
    setting, at = _setting(_RATES[0])
    problem = setting.problem
    loss = jax.jit(lambda state, data: problem.loss(unflat(problem, state), data))
    target = float(loss(setting.exact[-1], problem.data))
    drifts: list[Drift] = []
    for rate in rates:
        effort.say(f"descent by {rate:g}, against the exact flow")
        drifts.append(drift(setting, rate, at, target))
    ladders = _ladders(setting, effort, findings)
    ends: dict[str, np.ndarray] = {}
    times = _times(setting, ladders, ends, effort, findings)
    by_rate = {RATE: statistics.median(times.descents[descents.LOOP])}
    for rate in set(rates) - {RATE}:
        effort.say(f"{descents.LOOP} by {rate:g}")
        run = descents.by_hand(problem, rate)
        run(3)  # compiles it
        by_rate[rate] = seconds(partial(run, round(setting.case.t1 / rate)))
    measured = Measured(
        setting,
        drifts,
        ladders,
        times,
        ends,
        by_rate,
        lambda state: float(loss(state, problem.data)),
        target,
    )
    return report(measured, findings)


def _setting(longest: float) -> tuple[Setting, np.ndarray]:
    """The experiment with its exact flow, and the times that are at whole steps of all rates."""
    case = PROBLEMS["transformer"]
    at = moments(case.t1, longest)
    times = np.union1d(case.times(), at)
    exact = reference(case, 0, times)
    # Nothing here steps by the sharpness.
    return Setting(case, 0, case.build(0), times, exact, np.full(len(times), np.nan)), at


def _ladders(setting: Setting, effort: Effort, findings: Findings) -> dict[str, list[Flow]]:
    ladders = {}
    for name in (flows.OWN, flows.DIFFRAX, flows.TORCHDIFFEQ):
        if name in MISSING:
            findings.skipped.append(f"{name}: {MISSING[name]}")
            continue
        effort.say(f"{name}, from the loosest tolerance on")
        try:
            ladders[name] = flows.ladder(setting, name, ERROR, whole=not effort.quick)
        except RunFailedError as error:
            findings.skipped.append(f"{name}: {error}")
    return ladders


def _times(
    setting: Setting,
    ladders: dict[str, list[Flow]],
    ends: dict[str, np.ndarray],
    effort: Effort,
    findings: Findings,
) -> Race:
    """The race to the end; `ends` is told where each descent ended."""
    problem = setting.problem
    full = gf.tasks.Cooccurrence().build(jax.random.key(0))
    ways = {
        descents.OPTAX: descents.with_optax,
        descents.LOOP: descents.by_hand,
        descents.TORCH: descents.with_torch,
        descents.OWN: descents.with_gradflow,
    }
    if reason := absence("torch"):
        del ways[descents.TORCH]
        findings.skipped.append(f"{descents.TORCH}: {reason}")
    racers: dict[str, Callable[[], object]] = {}
    for name, way in ways.items():
        run = way(problem, RATE)
        run(3)  # compiles it
        racers[name] = partial(_noted, ends, name, run)
    contenders: dict[str, Callable[[], float]] = {
        name: partial(flows.wall(setting, name), flows.loosest(ladder, ERROR).rtol)
        for name, ladder in ladders.items()
    }
    rtol = flows.loosest(ladders[flows.OWN], ERROR).rtol
    recorded = {} if effort.quick else {"200 times": problem, "as shipped": full}
    for what, watched in recorded.items():
        descend = partial(gf.descend, watched, learning_rate=RATE, steps=STEPS, save=_TIMES)
        descend(cancelled=lambda: True)  # compiles it
        racers[f"{descents.OWN}, {what}"] = descend
        solve = partial(gf.solve, watched, t1=setting.case.t1, rtol=rtol, save=_TIMES)
        solve()  # compiles it
        contenders[f"{flows.OWN}, {what}"] = partial(seconds, solve)
    return race(racers, contenders, effort.pick(3, 1), effort.say)


def _noted(ends: dict[str, np.ndarray], name: str, run: descents.Descent) -> None:
    ends[name] = run(STEPS)
