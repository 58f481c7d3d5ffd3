"""What is known of how n-grams are learnt, checked along a run."""

from __future__ import annotations

import numpy as np

from ...analysis import derived
from ...trajectory import Trajectory
from ..blocks import balance_rows
from ..checking import ascending
from ..claims import Claim
from ..evidence import Evidence, Row

_PHASES = "Edelman et al. 2024"  # arXiv 2402.11004: from uniform over unigrams to bigrams

ROWS = (
    Row(
        "loss > that of the tokens' own counts",
        "Gibbs' inequality",
        "smallest difference",
        lambda e: derived(np.subtract, e.series("loss"), e.series("loss_bound")),
        "run",
        low=0.0,
        report="smallest",
    ),
    *balance_rows(),
)


def claims(trajectory: Trajectory, phases: dict[str, float | None]) -> tuple[Claim, ...]:
    """All of them.

    Args:
        trajectory: of the task.
        phases: its phases.
    """
    evidence = Evidence(trajectory, phases)
    return (_nearer(trajectory, phases), _nearest(trajectory), *(row(evidence) for row in ROWS))


def _nearer(trajectory: Trajectory, phases: dict[str, float | None]) -> Claim:
    """Predictions come nearer to ever longer n-grams, one after the other."""
    claim = Claim(" < ".join(phases), _PHASES, "smallest ratio")
    missing = [name for name, time in phases.items() if time is None]
    if missing:
        return claim._replace(
            note=f"{missing[0]} is not reached by t = {trajectory.final_time:.3g}"
        )
    if over := [name for name, time in phases.items() if time == 0]:
        return claim._replace(note=f"{over[0]} is over at the start")
    return ascending(claim, np.array(list(phases.values())))


def _nearest(trajectory: Trajectory) -> Claim:
    """They are nearest to each of them in the same order."""
    claim = Claim("nearest to ever longer n-grams", _PHASES, "smallest ratio of times")
    if "divergence" not in trajectory:
        return claim._replace(note="divergence is not recorded")
    rows = np.argmin(trajectory["divergence"], axis=0)
    return ascending(claim, trajectory.times("divergence")[rows])
