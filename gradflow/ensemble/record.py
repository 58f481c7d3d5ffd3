"""The runs of several seeds as one trajectory with an axis of seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..flow import FAILURES
from ..trajectory import SEED, TIME, Trajectory, Variable

_SUMMED = (
    "gradient_evaluations",
    "accepted",
    "rejected",
    "certification_evaluations",
    "observable_evaluations",
)


def assemble(
    members: Mapping[int, Trajectory], wall_seconds: float, compile_seconds: float
) -> Trajectory:
    """The runs side by side.

    Args:
        members: the runs, one at least, by their seeds.
        wall_seconds: what all of them took together, compilation included.
        compile_seconds: of that, what compilation took while all waited.

    Returns:
        The same variables, each with ``seed`` as its last axis, NaN where a run had ended. A time
        at which a single run was cut short, between save times, is left out. ``stats`` are totals,
        of ``error_estimate`` the worst, and ``attrs["results"]`` says what ended each run.

    Raises:
        ValueError: the runs did not record the same.
    """
    runs = tuple(members.values())
    first = runs[0]
    for seed, run in members.items():
        _check_alike(next(iter(members)), first, seed, run)
    labels = {name: at for name, at in first.coords.items() if not _is_time(name)}
    times = {axis: _common_times(axis, runs) for axis in first.coords if _is_time(axis)}
    return Trajectory(
        variables={name: _stacked(name, runs, times) for name in first},
        coords=times | labels | {SEED: np.array(list(members))},
        final_time=max(run.final_time for run in runs),
        stats=_totals(runs)
        | {"wall_seconds": wall_seconds - compile_seconds, "compile_seconds": compile_seconds},
        result=_result(runs),
        attrs={"results": {str(seed): run.result for seed, run in members.items()}},
    )


def _is_time(axis: str) -> bool:
    return axis == TIME or axis.startswith(f"{TIME}_")


def _check_alike(first_seed: int, first: Trajectory, seed: int, run: Trajectory) -> None:
    names = set(first) ^ set(run)
    for name in sorted(set(first) & set(run)):
        one, other = first.variables[name], run.variables[name]
        if one.dims != other.dims or one.values.shape[1:] != other.values.shape[1:]:
            names.add(name)
    if SEED in first.coords:
        names.add(SEED)
    if names:
        raise ValueError(
            f"the runs of seeds {first_seed} and {seed} did not record the same: they differ in "
            f"{', '.join(sorted(names))}; give all problems of an ensemble the same shapes and "
            f"observables, and no axis the name {SEED!r}"
        )


def _common_times(axis: str, runs: Sequence[Trajectory]) -> np.ndarray:
    """All times but those of one run alone, where that was cut short."""
    every, counts = np.unique(
        np.concatenate([run.coords[axis] for run in runs]), return_counts=True
    )
    whole = [run.coords[axis] for run in runs if run.result == "end_time" or len(runs) == 1]
    kept = np.isin(every, np.concatenate(whole)) if whole else False
    return every[(counts > 1) | kept]


def _stacked(name: str, runs: Sequence[Trajectory], times: Mapping[str, np.ndarray]) -> Variable:
    first = runs[0].variables[name]
    axis, *rest = first.dims
    at = times[axis]
    whole = all(len(run.coords[axis]) == len(at) for run in runs)
    dtype = first.values.dtype
    if not whole and not np.issubdtype(dtype, np.inexact):  # counts, or whether something holds
        dtype = np.dtype(float)
    values = np.full((len(at), *first.values.shape[1:], len(runs)), np.nan if not whole else 0)
    values = values.astype(dtype)
    for i, run in enumerate(runs):
        kept = np.isin(run.coords[axis], at)
        values[np.searchsorted(at, run.coords[axis][kept]), ..., i] = run[name][kept]
    return Variable(values, (axis, *rest, SEED), first.label, first.units)


def _totals(runs: Sequence[Trajectory]) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: sum(run.stats[key] for run in runs) for key in _SUMMED if key in runs[0].stats
    }
    found["solver"] = " and ".join(
        dict.fromkeys(name for run in runs for name in run.stats["solver"].split(" and "))
    )
    if "error_estimate" in runs[0].stats:
        found["error_estimate"] = float(np.max([run.stats["error_estimate"] for run in runs]))
    return found


def _result(runs: Sequence[Trajectory]) -> str:
    """Of the first that failed, or else was cut short, or else of the first."""
    results = [run.result for run in runs]
    failed = [result for result in results if result in FAILURES]
    cut = [result for result in results if result == "cancelled"]
    return [*failed, *cut, *results][0]
