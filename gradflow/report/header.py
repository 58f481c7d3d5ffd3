"""The top of a page: what was run, and how it ended."""

from __future__ import annotations

import ast
import contextlib
import inspect
from pathlib import Path

from .. import storage
from ..config import Config
from ..flow import FAILURES, RESULTS
from ..tasks import Python
from ..trajectory import SEED
from .html import Element, tag
from .numbers import number


def header(run: storage.Run, config: Config | None) -> Element:
    """What the run is called, what was asked of it, and what came of that."""
    kind, word, told = _verdict(run)
    return tag(
        "header",
        tag("p", run.directory.resolve().name),
        tag("h1", _title(run, config)),
        tag("p", _asked(run, config)),
        tag("p", tag("b", word), tag("span", told), class_=f"verdict {kind}"),
        *(tag("p", note, class_="note") for note in run.summary.get("notes", ())),
    )


def _title(run: storage.Run, config: Config | None) -> str:
    """What the problem says of itself in its first line; a user's, the function that made it."""
    task = config.problem if config is not None else None
    target = task.target if isinstance(task, Python) else ""
    source = run.directory / storage.SOURCE
    told = [
        Path(run.manifest.get("problem", target)).name,
        inspect.getdoc(type(task)) if task is not None else "",
    ]
    if source.is_file():
        with contextlib.suppress(SyntaxError, ValueError):
            code = ast.parse(source.read_bytes())
            made = [node for node in code.body if isinstance(node, ast.FunctionDef)]
            named = [node for node in made if node.name == target.rpartition(":")[2]]
            told = [ast.get_docstring(node) for node in (*named, code)] + told
    first = next(filter(None, told), "A run of gradflow")
    return first.splitlines()[0].rstrip(".")


def _asked(run: storage.Run, config: Config | None) -> str:
    """What was to be done, in a line."""
    seed, seeds = run.manifest.get("seed"), run.manifest.get("seeds", 1)
    parts = [f"{run.manifest.get('precision', '')}".strip()]
    if seed is not None:
        parts.insert(0, f"seed {seed}" if seeds == 1 else f"seeds {seed} to {seed + seeds - 1}")
    if config is not None:
        flow, descent, study = config.flow, config.descent, config.scaling
        what = "gradient flow"
        if flow.field != "gradient":
            what = f"flow of the field {flow.field.kind.replace('_', ' ')}"
        sure = ", certified" if flow.certify else ""
        parts.insert(0, f"{what} to t = {number(flow.t1)} at rtol {number(flow.rtol)}{sure}")
        if descent is not None:
            count = len(descent.learning_rates)
            parts.append(f"{descent.optimiser} at {count} learning rate{'s' * (count > 1)}")
        if study is not None:
            parts.append(f"a study of {', '.join(study.vary)}")
    line = "; ".join(part for part in parts if part)
    return line[:1].upper() + line[1:]


_GOES_ON = "; gradflow resume goes on with it"


def _verdict(run: storage.Run) -> tuple[str, str, str]:
    """How it ended: whether that is good, in a word, and what more there is to say."""
    flow = run.trajectories.get("flow")
    failures = run.summary.get("seeds", run.summary).get("failures", ())
    if flow is None and run.scaling is None:
        seeds = sum(name.startswith(storage.SEED_OF) for name in run.trajectories)
        kept = f"{seeds} seeds are kept" if seeds else "nothing was kept"
        told = f": {kept}; it was killed, was ended by an error, or is still going on"
        return "open", "Unfinished", told + _GOES_ON
    if flow is None:
        if failures:
            return "bad", f"{len(failures)} failed", "; the others are kept"
        if run.scaling is not None and run.scaling.result == "cancelled":
            return "open", "Interrupted", "; what was computed is kept" + _GOES_ON
        return _complete(run, "the study was run")
    at = f" at t = {flow.final_time:.6g}"
    if SEED in flow.coords:
        seeds = len(flow.coords[SEED])
        if failures:
            told = "; the others, and what was computed of these, are kept"
            return "bad", f"{len(failures)} of {seeds} seeds failed", told
        told = f"{seeds} seeds, each to its end"
    elif flow.result == "unfinished":
        return "open", f"Unfinished{at}", f": {RESULTS[flow.result]}" + _GOES_ON
    elif flow.result in FAILURES:
        return "bad", f"Failed{at}", f": {RESULTS[flow.result]}; what was computed is kept"
    else:
        told = f"{RESULTS.get(flow.result, flow.result)}{at}"
    results = (
        *flow.attrs.get("results", {}).values(),
        *(one.result for one in (flow, *run.descents)),
    )
    if "cancelled" in results:
        return "open", f"Interrupted{at}", "; what was computed is kept" + _GOES_ON
    return _complete(run, told)


def _complete(run: storage.Run, told: str) -> tuple[str, str, str]:
    if "ended" not in run.manifest:
        return "open", "Unfinished", f": {told}, but not all of its files are there" + _GOES_ON
    return "good", "Done", f": {told}"
