"""The parts of a page: each is made of one part of a stored run, and absent where that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .. import scaling
from ..storage import Run
from ..tasks import claims
from ..trajectory import Trajectory
from .html import Content, Element, definitions, section, table, tag
from .numbers import name, number, said

# Of the flow's summary, what stands out; the rest is told below.
_FIRST = ("t1", "loss", "gradient_evaluations", "error_estimate")
# What has a section, or a place, of its own.
_OWN = ("flow", "descent", "comparison", "scaling", "failures")


def headline(run: Run) -> Element | None:
    """The numbers that stand out, and all else that a summary has."""
    summary = run.summary
    flow = dict(summary.get("flow", {}))
    large = {name(key): number(flow.pop(key)) for key in _FIRST if key in flow}
    large |= {name(key): _time(at) for key, at in summary.get("phases", {}).items()}
    flow.pop("result", None)
    others = {"flow": flow} | {
        key: part for key, part in summary.items() if key not in (*_OWN, "phases")
    }
    parts = [
        tag("section", tag("h3", name(key)), definitions(_worded(part)))
        for key, part in others.items()
        if part
    ]
    tiles = definitions(large)
    if tiles is not None:
        tiles.set("class", "large")
    return section("Headline numbers", tiles, tag("div", *parts, class_="parts") if parts else None)


def _time(at: Any) -> str:
    return "not reached" if at is None else said(at)


def _worded(part: Any) -> dict[str, Content]:
    if not isinstance(part, Mapping):
        return {"value": said(part)}
    return {name(str(key)): said(value) for key, value in part.items()}


def legs(flow: Trajectory) -> Element | None:
    """Which solver ran when, where there was more than one."""
    found = flow.stats.get("legs", ())
    if len(found) < 2:
        return None
    heading = ("solver", "from", "to", "steps", "refused", "gradients")
    keys = ("from", "to", "accepted", "rejected", "gradient_evaluations")
    rows = [(leg["solver"], *(number(leg[key]) for key in keys)) for leg in found]
    return table("Legs: which solver ran from when to when", heading, rows, numeric=5)


def descents(run: Run) -> Element | None:
    """What became of each learning rate, and what the comparison shows."""
    heading = (
        "learning rate", "steps", "loss", "gradients", "seconds", "largest drift",
        "relative drift at the end", "ended",
    )  # fmt: skip
    rows = [
        (
            *(
                number(row.get(key))
                for key in (
                    "learning_rate", "steps", "loss", "gradient_evaluations", "wall_seconds",
                    "max_drift", "relative_drift",
                )
            ),
            "diverged" if row.get("diverged") else name(str(row.get("result", "–"))),
        )
        for row in run.summary.get("descent", ())
    ]  # fmt: skip
    lines = [tag("li", line) for line in run.summary.get("comparison", {}).get("findings", ())]
    return section(
        "Gradient descent beside the flow",
        table("Descents at matched times t = learning rate × step", heading, rows),
        tag("ul", *lines) if lines else None,
    )


def certified(run: Run) -> Element | None:
    """The worst error of every variable of a certified flow."""
    flow = run.trajectories.get("flow")
    if flow is None or "relative_error" not in flow:
        return None
    rows = [
        (what, tag("code", variable), number(worst, 2), number(at), number(share, 2))
        for what, variable, worst, at, share in _errors(flow)
    ]
    return section(
        "Certified errors",
        tag(
            "p",
            "A second flow at a hundredth of the tolerance went along; its distance from this one "
            "is the estimate of this one’s error.",
        ),
        table(
            "The largest absolute error of each variable, over all times and entries",
            ("variable", "name", "error", "at time", "relative to its range"),
            rows,
            numeric=3,
        ),
    )


def _errors(flow: Trajectory) -> Iterator[tuple[str, str, float, float, float]]:
    """Of the parameters relative to the distance travelled, of variables to their range."""
    pairs = [("parameters, of the distance travelled", "error", "error", flow["relative_error"])]
    for variable in flow:
        if (error := f"{variable}_error") in flow:
            values = flow[variable]
            known = values[np.isfinite(values)].astype(float)
            span = np.ptp(known) if len(known) else np.nan
            with np.errstate(divide="ignore", invalid="ignore"):
                share = flow[error] / span
            pairs.append((flow.variables[variable].label or variable, variable, error, share))
    for what, variable, error, share in pairs:
        values = np.where(np.isfinite(flow[error]), flow[error], -1.0)
        if values.size == 0 or values.max() < 0:
            continue
        row = int(np.argmax(values.reshape(len(values), -1).max(axis=1)))
        shares = share[np.isfinite(share)]
        yield (
            what,
            variable,
            float(values.max()),
            float(flow.times(error)[row]),
            float(shares.max()) if len(shares) else np.nan,
        )


def claimed(run: Run) -> Element | None:
    """The task's claims, or of an ensemble their tally."""
    if not run.claims:
        return None
    kind = claims.Tally if "by_seed" in run.claims[0] else claims.Claim
    heading = claims.TALLY_HEADING if kind is claims.Tally else claims.HEADING
    rows = []
    for row in run.claims:
        cells = kind(**row).cells()
        rows.append(tuple(map(_marked, cells)))
    return section(
        "Claims of the paper",
        table("Whether each claim held, and the number that was measured", heading, rows),
    )


def _marked(cell: str) -> Content:
    """As a terminal shows it, with signs that a page has."""
    if cell == "yes":
        return tag("span", "✓ yes", class_="good")
    if cell == "NO":
        return tag("span", "✗ no", class_="bad")
    if cell == "-":
        return "–"
    return cell.replace(" +- ", " ± ").replace(" -", " −")


def scalings(run: Run) -> Element | None:
    """The power laws of a scaling study, and what is missing of it."""
    record = run.scaling
    if record is None:
        return None
    lines = [tag("li", line) for line in run.summary.get("failures", ())]
    return section(
        "Scaling with size",
        table(
            "Fitted exponents, and whether they agree with what theory says",
            scaling.HEADING,
            [tuple(map(_marked, fit.cells())) for fit in scaling.fits(record)],
        ),
        tag("p", "Missing, and why:") if lines else None,
        tag("ul", *lines) if lines else None,
    )
