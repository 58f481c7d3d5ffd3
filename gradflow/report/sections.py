"""The parts of a page: each is made of one part of a stored run, and absent where that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .. import scaling
from ..flow import RESULTS
from ..storage import Run
from ..tasks import claims
from ..trajectory import Trajectory
from .html import Content, Element, definitions, section, table, tag
from .numbers import name, number, said, typeset

# Of the flow's summary, what stands out, its name and so many digits; the rest is told below.
_FIRST = {
    "t1": ("end time", 6), "loss": ("loss at the end", 4),
    "gradient_evaluations": ("gradient evaluations", 4), "error_estimate": ("estimated error", 2),
}  # fmt: skip
# What has a place of its own.
_OWN = ("flow", "phases", "descent", "comparison", "scaling", "failures", "notes")


def headline(run: Run) -> Element | None:
    """The numbers that stand out, and all else that a summary has."""
    summary = run.summary
    flow = dict(summary.get("flow") or _unsummarised(run))
    large: dict[str, Content] = {
        title: number(flow.pop(key), digits)
        for key, (title, digits) in _FIRST.items()
        if key in flow
    }
    large |= {name(key): _time(at) for key, at in summary.get("phases", {}).items()}
    if "critical_point" in summary:
        large["critical point"] = summary["critical_point"].get("type")
    flow.pop("result", None)
    others = {key: part for key, part in summary.items() if key not in _OWN}
    others = {"flow": flow, **others}
    parts = [
        tag("section", tag("h3", name(key)), definitions(_worded(key, part)))
        for key, part in others.items()
        if part
    ]
    return section(
        "Headline numbers",
        definitions(large, "large"),
        tag("div", *parts, class_="parts") if parts else None,
        _legs(run),
    )


def _unsummarised(run: Run) -> dict[str, Any]:
    """What a summary would say of the flow, of a run that was killed before there was one."""
    flow = run.trajectories.get("flow")
    if flow is None:
        return {}
    return {"t1": flow.final_time} | {key: flow.stats[key] for key in flow.stats if key != "legs"}


def _time(at: Any) -> str:
    return "not reached" if at is None else said(at)


def _worded(of: str, part: Any) -> dict[str, Content]:
    if not isinstance(part, Mapping):
        return {"value": said(part)}
    reached = "reached " if of == "seeds" else ""
    return {
        (reached if key.startswith("T") else "") + name(key): said(value)
        for key, value in part.items()
        if value != ""
    }


def _legs(run: Run) -> Element | None:
    """Which solver ran when, where there was more than one."""
    flow = run.trajectories.get("flow")
    found = flow.stats.get("legs", ()) if flow is not None else ()
    if len(found) < 2:
        return None
    heading = ("solver", "from", "to", "steps", "refused", "gradients")
    keys = ("from", "to", "accepted", "rejected", "gradient_evaluations")
    rows = [(leg["solver"], *(number(leg[key]) for key in keys)) for leg in found]
    return table("Legs: which solver ran from when to when", heading, rows, numeric=5)


def settings(problem: Mapping[str, Any]) -> Element | None:
    """What the problem was told."""
    terms = {name(key): said(value) for key, value in problem.items()}
    return section("Problem", definitions(terms, "settings"))


def descents(run: Run) -> Element | None:
    """What became of each learning rate, and what the comparison shows."""
    heading = (
        "learning rate", "ended", "steps", "loss", "gradients", "seconds", "largest drift",
        "relative drift at the end",
    )  # fmt: skip
    keys = ("steps", "loss", "gradient_evaluations", "wall_seconds", "max_drift", "relative_drift")
    rows = [
        (number(row["learning_rate"]), _ended(row["result"]), *(number(row[key]) for key in keys))
        for row in run.summary.get("descent", ())
    ]
    told = run.summary.get("comparison", {}).get("findings", ())
    lines = [tag("li", typeset(line)) for line in told]
    return section(
        "Gradient descent beside the flow",
        table("Descents at matched times t = learning rate × step", heading, rows, numeric=6),
        tag("ul", *lines) if lines else None,
    )


def _ended(result: str) -> str:
    return RESULTS.get(result, result)


def certified(run: Run) -> Element | None:
    """The worst error of every variable of a certified flow."""
    flow = run.trajectories.get("flow")
    if flow is None or "relative_error" not in flow:
        return None
    rows = [
        (
            tag("span", f"{typeset(what)} ", tag("code", variable)),
            number(worst, 2),
            number(at, 3),
            number(share, 2),
        )
        for what, variable, worst, at, share in _errors(flow)
    ]
    return section(
        "Certified errors",
        tag(
            "p",
            "A second flow at a hundredth of the tolerance went along; its distance from this one "
            "is the estimate of this one’s error. What is zero along the exact flow, as a drift of "
            "what it conserves, is an error itself, and all of its own range.",
        ),
        table(
            "The largest absolute error of each variable, over all times and entries",
            ("variable", "error", "at time", "relative to its range"),
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
        known: dict[str, Any] = {field: row.get(field) for field in kind._fields}
        rows.append(tuple(map(_marked, kind(**known).cells())))
    return section(
        "Claims",
        table("Whether each claim held, and the number that was measured", heading, rows),
    )


def _marked(cell: str) -> Content:
    """As a terminal shows it, with signs that a page has."""
    match cell:
        case "yes":
            return tag("b", "✓ yes", class_="good")
        case "NO":
            return tag("b", "✗ no", class_="bad")
        case "-":
            return "–"
    return typeset(cell.replace(" yes (", " ✓ yes (").replace(" NO (", " ✗ no ("))


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
