"""A suite's file: what was found, and all that it depends on."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax

from .criterion import Criterion
from .family import Findings
from .table import Column, Kind, Table

PEERS = ("extensisq", "torch", "torchdiffeq")
_PACKAGES = (
    "gradflow", "jax", "jaxlib", "diffrax", "equinox", "optax", "numpy", "scipy", *PEERS,
)  # fmt: skip
# As JavaScript names them: no cell of words is likely to be one.
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass
class Outcome:
    """What came of one family.

    Attributes:
        name: of the family.
        what: its question.
        wall: seconds that it took, compilation and references included.
        findings: what it found; ``None`` if it failed.
        failure: why.
    """

    name: str
    what: str
    wall: float
    findings: Findings | None = None
    failure: str = ""


@dataclass
class Record:
    """What a suite has found.

    Attributes:
        made: the machine, the versions and the effort: see `made`.
        outcomes: in the order in which the families ran.
    """

    made: dict[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """The file, whole or not at all."""
        self.made["load"]["after"] = load()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(_to_json(asdict(self)), file, indent=1, allow_nan=False)
            os.replace(beside, path)
        except BaseException:
            os.unlink(beside)
            raise

    @classmethod
    def read(cls, path: Path) -> Record:
        """What `write` wrote.

        Raises:
            ValueError: the file is not a record.
        """
        try:
            content = _from_json(json.loads(path.read_text()))
            return cls(content["made"], [_outcome(each) for each in content["outcomes"]])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is no record of the suite ({type(error).__name__}: {error}); "
                "`python -m benchmarks --json FILE` writes one"
            ) from None


def _to_json(value: Any) -> Any:
    """`value` with Python's numbers for NumPy's, and names for those that JSON has none for."""
    if isinstance(value, dict):
        return {name: _to_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return next(name for name, number in _NOT_FINITE.items() if str(number) == str(value))


def _from_json(value: Any) -> Any:
    """What `_to_json` was given, with lists for its tuples."""
    if isinstance(value, dict):
        return {name: _from_json(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_from_json(each) for each in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def _outcome(content: dict[str, Any]) -> Outcome:
    findings = content["findings"]
    if findings is None:
        return Outcome(**content)
    tables = [
        Table(
            table["title"],
            tuple(Column(column["name"], Kind(column["kind"])) for column in table["columns"]),
            [tuple(row) for row in table["rows"]],
            table["note"],
        )
        for table in findings["tables"]
    ]
    criteria = [Criterion(**criterion) for criterion in findings["criteria"]]
    found = Findings(tables, criteria, findings["skipped"], findings["data"])
    return Outcome(**(content | {"findings": found}))


def made(quick: bool) -> dict[str, Any]:
    """What a measurement depends on beside itself.

    Args:
        quick: whether less was measured.

    Returns:
        ``versions`` (``None`` for a package that is not installed), ``device``, ``processors``
        (of the machine, and those that this process may use), ``load`` of the last minute
        (``None`` where the system does not say), ``commit`` and ``quick``.
    """
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in _PACKAGES},
        "device": f"{jax.devices()[0].platform} ({jax.devices()[0].device_kind})",
        "processors": {"machine": os.cpu_count(), "process": usable()},
        "load": {"before": load(), "after": None},
        "commit": described.stdout.strip() or None,
        "quick": quick,
    }


def usable() -> int:
    """The processors that this process may use, and threads of JAX."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float | None:
    """Processes that ran or waited to run, on average over the last minute; Windows says none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
