"""What a comparison shows, in numbers and in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis import crossings, largest_rate
from ..trajectory import Trajectory
from .record import FITTED, RATE

if TYPE_CHECKING:
    from .lockstep import Comparison

_EDGE = 0.9  # of 2 / sharpness: from here on a learning rate counts as at the edge of stability
_FLOOR = 10  # times rtol: drifts below that are hardly told from the flow's own error


def numbers(record: Trajectory, drift_limit: float) -> dict[str, Any]:
    """The headline numbers.

    Returns:
        ``time``, that of `last_row`; ``order`` and, where it was solved, ``modified_order`` of
        the drift at that time as ``[value, low, high]``;
        ``drift_limit`` and ``largest_rate``, the largest learning rate whose relative drift
        stays within it at all times: none of 0 distance count.
    """
    row = last_row(record)
    found: dict[str, Any] = {"time": float(record.time[row]) if len(record.time) else 0.0}
    rates = record.coords[RATE]
    for name in ("drift", "modified_drift"):
        if name in record and len(record.time):
            parts = (f"{name}_order", f"{name}_order_low", f"{name}_order_high")
            order = [float(record[part][row]) for part in parts]
            found[name.replace("drift", "order")] = order
    found |= {
        "drift_limit": drift_limit,
        "largest_rate": largest_rate(rates, worst(record["relative_drift"]), drift_limit),
    }
    return found


def summary(comparison: Comparison) -> list[dict[str, Any]]:
    """The headline numbers of every descent.

    Returns:
        For each ``max_drift``, the largest distance from the flow at any time, and
        ``relative_drift``, at the last time at which it was still there the distance divided by
        that which the flow had travelled; both null where it never was.
    """
    found = []
    for j, descent in enumerate(comparison.descents):
        drift, relative = comparison["drift"][:, j], comparison["relative_drift"][:, j]
        known = np.isfinite(relative)
        loss = descent["loss"]
        found.append(
            {
                "learning_rate": descent.stats["learning_rate"],
                "steps": descent.stats["steps"],
                "loss": loss[-1] if len(loss) else None,
                "gradient_evaluations": descent.stats["gradient_evaluations"],
                "wall_seconds": descent.stats["wall_seconds"],
                "max_drift": drift[known].max() if known.any() else None,
                "relative_drift": relative[known][-1] if known.any() else None,
                "diverged": descent.stats["diverged"],
                "result": descent.result,
            }
        )
    return found


def last_row(record: Trajectory) -> int:
    """The last time at which as many descents as at any time but the start were still there.

    Those count that orders are fitted over; all, where there are none.
    """
    fitted = np.isin(record.coords[RATE], record.attrs.get(FITTED, ()))
    drift = record["drift"][:, fitted if fitted.any() else slice(None)]
    there = np.isfinite(drift).sum(axis=1)
    return int(np.flatnonzero(there == there[1:].max(initial=0)).max(initial=0))


def worst(relative_drift: np.ndarray) -> np.ndarray:
    """The largest relative drift of each descent; NaN of one that did not come to the end."""
    if not len(relative_drift):
        return np.full(relative_drift.shape[1], np.nan)
    known = np.where(np.isnan(relative_drift), -np.inf, relative_drift).max(axis=0)
    return np.where(np.isnan(relative_drift[-1]) | (known < 0), np.nan, known)


def stability(
    rates: Sequence[float],
    plain: Sequence[bool],
    flow: Trajectory,
    descents: Sequence[Trajectory],
) -> list[dict[str, Any]]:
    """When the sharpness crosses 2/eta, of every rate of plain descent.

    Args:
        rates: the learning rates.
        plain: whether their descents are plain, of which alone 2/eta is the limit.
        flow: with its ``sharpness``.
        descents: with theirs.

    Returns:
        A row for each crossing: ``learning_rate``, ``run`` (``"flow"`` or ``"descent"``),
        ``limit`` 2/eta, ``time``, linear between the times recorded, and ``direction``, 1 where
        the sharpness rises above the limit and -1 where it falls below.
    """
    found = []
    for rate, is_plain, descent in zip(rates, plain, descents, strict=True):
        for name, run in (("flow", flow), ("descent", descent)) if is_plain else ():
            for time, way in crossings(run.times("sharpness"), run["sharpness"], 2 / rate):
                row = {"learning_rate": rate, "run": name, "limit": 2 / rate}
                found.append(row | {"time": float(time), "direction": int(way)})
    return found


def findings(
    record: Trajectory,
    descents: Sequence[Trajectory],
    plain: Sequence[bool],
    rtol: float,
) -> tuple[str, ...]:
    """What the comparison shows, a line each.

    Args:
        record: the comparison, with its numbers as attributes.
        descents: the descents.
        plain: whether they are plain descent, of which alone 2/eta is the limit.
        rtol: the flow's tolerance.
    """
    sharpness = record.attrs["sharpness"]
    said: list[str] = []
    for j, (rate, descent) in enumerate(zip(record.coords[RATE], descents, strict=True)):
        name = f"learning rate {rate:g}"
        limit = 2 / rate
        if plain[j] and _EDGE * limit <= sharpness <= limit:
            said.append(
                f"{name} starts at the edge of stability: sharpness {sharpness:.4g} "
                f"against 2/eta = {limit:.4g}"
            )
        elif plain[j] and sharpness > limit:
            said.append(
                f"{name} starts above the edge of stability: sharpness {sharpness:.4g} "
                f"against 2/eta = {limit:.4g}"
            )
        for row in record.attrs["stability"]:
            if row["learning_rate"] == rate:
                way = "above" if row["direction"] > 0 else "below"
                said.append(
                    f"{name}: the sharpness of the {row['run']} goes {way} 2/eta = {limit:.4g} "
                    f"at t = {row['time']:.4g}"
                )
        if descent.stats["diverged"]:
            said.append(f"{name} diverged after t = {descent.final_time:.6g}")
    said += _orders(record)
    final = record["relative_drift"][last_row(record)] if len(record.time) else np.empty(0)
    close = final[np.isfinite(final) & (final < _FLOOR * rtol)]
    if close.size:
        said.append(
            f"the smallest relative drift, {close.min():.2g}, is below {_FLOOR} x rtol: "
            f"to tell it from the flow's own error, tighten rtol = {rtol:g}"
        )
    return tuple(said)


def _orders(record: Trajectory) -> list[str]:
    said = []
    for key, what in (("order", "flow"), ("modified_order", "modified flow")):
        value, low, high = record.attrs.get(key, (np.nan,) * 3)
        if np.isfinite(value):
            between = f" ({low:.3f} to {high:.3f})" if np.isfinite(low) else ""
            rates = record.attrs[FITTED]
            said.append(
                f"at t = {record.attrs['time']:.6g} the drift from the {what} grows with the "
                f"learning rate, up to {max(rates):g}, to the power {value:.3f}{between}"
            )
    limit, largest = record.attrs["drift_limit"], record.attrs["largest_rate"]
    if largest is None:
        said.append(f"no learning rate stays within a relative drift of {limit:g}")
    else:
        said.append(f"within a relative drift of {limit:g} up to learning rate {largest:.4g}")
    return said
