"""The end of a page: all it takes to do the same again."""

from __future__ import annotations

import json
import re

from .. import storage
from ..config import Config
from .html import Content, Element, definitions, folded, section, table, tag
from .numbers import number, size

_WHAT = {
    storage.CONFIG: "what was asked for, every default written out",
    storage.MANIFEST: "versions, device, seed, command, commit and times",
    storage.SUMMARY: "the headline numbers",
    storage.CLAIMS: "the claims",
    storage.FLOW: "everything recorded along the flow (netCDF-4)",
    storage.FINAL: "the parameters at its end (NumPy)",
    storage.CRITICAL_POINT: "the critical point that the flow goes to (NumPy)",
    storage.EIGENVALUES: "what is known of its Hessian (NumPy)",
    storage.COMPARISON: "the descents held against the flow (netCDF-4)",
    storage.SCALING: "what was measured at every size (netCDF-4)",
    storage.SWEEP: "what came of every point (netCDF-4)",
    storage.SOURCE: "the problem",
}
_PICTURES = "the figures, each as PNG and PDF"


def reproduction(run: storage.Run, config: Config | None) -> Element | None:
    """Files, command, versions and machine."""
    manifest = run.manifest
    device = manifest.get("device", {})
    terms = {
        "command": tag("code", manifest["command"]) if manifest.get("command") else None,
        "commit": tag("code", manifest["commit"]) if manifest.get("commit") else None,
        "began": _moment(manifest.get("began", "–")),
        "ended": _moment(manifest.get("ended", "it has not")),
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
    again = f"gradflow {'sweep' if 'sweep' in manifest else 'solve'} config.yaml"
    parts: list[Content] = [
        tag("p", "Run ", tag("code", again), " with the files below:"),
        *sources,
        definitions(terms, "facts"),
        table("Files of the run", ("file", "what it is", "size"), _files(run), numeric=1),
    ]
    return section("How to reproduce it", *parts)


def _moment(iso: str) -> str:
    return re.sub(r"(?<=\d)T(?=\d)", " ", iso).replace("+00:00", " UTC")


def _files(run: storage.Run) -> list[tuple[Content, str, str]]:
    rows: list[tuple[Content, str, str]] = []
    for path in sorted(run.directory.iterdir()):
        if path.is_file() and path.name != storage.REPORT and not path.name.startswith("."):
            what = _WHAT.get(path.name, "a descent (netCDF-4)" if path.suffix == ".nc" else "")
            rows.append((tag("code", path.name), what, size(path.stat().st_size)))
    if drawn := [path.stat().st_size for path in (run.directory / storage.FIGURES).glob("*.p*")]:
        rows.append((tag("code", f"{storage.FIGURES}/"), _PICTURES, size(sum(drawn))))
    return rows
