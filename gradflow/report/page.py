"""`write`: a stored run as one page that needs nothing else."""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
from collections.abc import Iterable
from pathlib import Path

from .. import storage
from ..config import Config, ConfigError
from ..config import load as load_config
from ..flow import FAILURES, RESULTS
from ..tasks import Python
from ..trajectory import SEED
from . import sections
from .html import Content, Element, definitions, folded, page, section, table, tag
from .numbers import number, size
from .shown import Drawn, of_run, render
from .vector import inlined

_STYLE = Path(__file__).with_name("style.css")
_WHAT = {
    storage.CONFIG: "what was asked for, every default written out",
    storage.MANIFEST: "versions, device, seed, command, commit and times",
    storage.SUMMARY: "the headline numbers",
    storage.CLAIMS: "the claims",
    storage.FLOW: "everything recorded along the flow (netCDF-4)",
    storage.FINAL: "the parameters at its end (NumPy)",
    storage.COMPARISON: "the descents held against the flow (netCDF-4)",
    storage.SCALING: "what was measured at every size (netCDF-4)",
    storage.SOURCE: "the problem",
}
_PICTURES = "the figures, each as PNG and PDF"


def write(directory: str | Path, drawn: Iterable[Drawn] | None = None) -> Path:
    """Write the report of a stored run into its directory: one HTML file that loads nothing else.

    Any run that `gradflow.load` reads has one: of a run that failed, was interrupted or killed, it
    says so and shows what there is.

    Args:
        directory: of the run.
        drawn: its figures with their SVG; otherwise all that it has are drawn.

    Returns:
        The file written, ``report.html``.

    Raises:
        StorageError: there is no run, or one of its files is damaged.
        OSError: the file cannot be written.

    >>> import gradflow as gf
    >>> from gradflow import storage
    >>> from pathlib import Path
    >>> storage.create(Path("killed"), {"versions": {"gradflow": "0.1"}}, overwrite=False)
    >>> page = gf.report.write("killed")
    >>> page.name, "Unfinished" in page.read_text(encoding="utf-8")
    ('report.html', True)
    """
    run = storage.load(directory)
    config, fault = None, ""
    try:
        config = load_config(run.config)
    except ConfigError as error:
        fault = f"No figures, for its {storage.CONFIG} cannot be used any more: {error}"
        if not run.config.exists():
            fault = f"It has no {storage.CONFIG}: it was killed before that was written."
    if drawn is None:
        drawn = ()
        if config is not None and not {"flow", "scaling"}.isdisjoint(run.trajectories):
            drawn = render(of_run(config.problem, run), ("svg",))
    path = run.directory / storage.REPORT
    storage.write(path, compose(run, config, drawn, fault).encode())
    return path


def compose(
    run: storage.Run, config: Config | None, drawn: Iterable[Drawn], fault: str = ""
) -> str:
    """The page.

    Args:
        run: what is on it.
        config: that of the run, if it can be read.
        drawn: the figures, with their SVG.
        fault: what there is to say where it cannot.
    """
    flow = run.trajectories.get("flow")
    figures = [inlined(figure) for figure in drawn]
    return page(
        f"{run.directory.resolve().name} – gradflow",
        _STYLE.read_text(encoding="utf-8"),
        _header(run, config),
        tag("p", "Its config.yaml cannot be used any more: ", fault, class_="bad")
        if fault
        else None,
        sections.headline(run),
        sections.settings(config.problem.model_dump(mode="json")) if config is not None else None,
        sections.legs(flow) if flow is not None else None,
        sections.descents(run),
        sections.scalings(run),
        sections.certified(run),
        section("Figures", tag("div", *figures, class_="figures")) if figures else None,
        sections.claimed(run),
        _reproduced(run, config),
    )


def _header(run: storage.Run, config: Config | None) -> Element:
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
    told = [Path(target).name, inspect.getdoc(type(task)) if task is not None else ""]
    if source.is_file():
        with contextlib.suppress(SyntaxError):
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


def _verdict(run: storage.Run) -> tuple[str, str, str]:
    """How it ended: whether that is good, in a word, and what more there is to say."""
    flow = run.trajectories.get("flow")
    failures = run.summary.get("seeds", run.summary).get("failures", ())
    if flow is None and run.scaling is None:
        told = ": it was killed before anything was computed, or is still going on"
        return "open", "Unfinished", told
    if flow is None:
        if failures:
            return "bad", f"{len(failures)} failed", "; the others are kept"
        return _complete(run, "the study was run")
    at = f" at t = {flow.final_time:.6g}"
    if SEED in flow.coords:
        seeds = len(flow.coords[SEED])
        if failures:
            told = "; the others, and what was computed of these, are kept"
            return "bad", f"{len(failures)} of {seeds} seeds failed", told
        told = f"{seeds} seeds, each to its end"
    elif flow.result in FAILURES:
        return "bad", f"Failed{at}", f": {RESULTS[flow.result]}; what was computed is kept"
    else:
        told = f"{RESULTS.get(flow.result, flow.result)}{at}"
    results = (
        *flow.attrs.get("results", {}).values(),
        *(one.result for one in (flow, *run.descents)),
    )
    if "cancelled" in results:
        return "open", f"Interrupted{at}", "; what was computed is kept"
    return _complete(run, told)


def _complete(run: storage.Run, told: str) -> tuple[str, str, str]:
    if "ended" not in run.manifest:
        return "open", "Unfinished", f": {told}, but not all of its files are there"
    return "good", "Done", f": {told}"


def _reproduced(run: storage.Run, config: Config | None) -> Element | None:
    """All it takes to do the same again."""
    manifest = run.manifest
    device = manifest.get("device", {})
    terms = {
        "command": tag("code", manifest["command"]) if manifest.get("command") else None,
        "commit": tag("code", manifest["commit"]) if manifest.get("commit") else None,
        "began": manifest.get("began"),
        "ended": manifest.get("ended", "not"),
        "machine": manifest.get("machine"),
        "device": " ".join(dict.fromkeys(device.values())) or None,
        "versions": ", ".join(f"{name} {which}" for name, which in manifest["versions"].items()),
    }
    flow = run.summary.get("flow", {})
    if "wall_seconds" in flow:
        taken = f"{number(flow['wall_seconds'], 3)} s"
        terms["time taken"] = f"{taken} after {number(flow.get('compile_seconds'), 3)} s compiling"
    texts = [
        (storage.CONFIG, "config.yaml, every default written out"),
        (storage.SOURCE, "problem.py, as it was run"),
    ]
    sources = [
        folded(title, (run.directory / name).read_text(encoding="utf-8", errors="replace"))
        for name, title in texts
        if (run.directory / name).is_file()
    ]
    if run.summary:
        sources.append(folded("summary.json", json.dumps(run.summary, indent=2)))
    again = "gradflow solve config.yaml"
    if config is not None and isinstance(config.problem, Python) and config.problem.source:
        again += f" problem.target={storage.SOURCE}:{config.problem.target.rpartition(':')[2]}"
    parts: list[Content] = [
        tag("p", "Run ", tag("code", again), " with the files below:"),
        *sources,
        definitions(terms, "facts"),
        table("Files of the run", ("file", "what it is", "size"), _files(run), numeric=1),
    ]
    return section("How to reproduce it", *parts)


def _files(run: storage.Run) -> list[tuple[Content, str, str]]:
    rows: list[tuple[Content, str, str]] = []
    for path in sorted(run.directory.iterdir()):
        if path.is_file() and path.name != storage.REPORT and not path.name.startswith("."):
            what = _WHAT.get(path.name, "a descent (netCDF-4)" if path.suffix == ".nc" else "")
            rows.append((tag("code", path.name), what, size(path.stat().st_size)))
    if drawn := [path.stat().st_size for path in (run.directory / storage.FIGURES).glob("*.p*")]:
        rows.append((tag("code", f"{storage.FIGURES}/"), _PICTURES, size(sum(drawn))))
    return rows
