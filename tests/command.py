"""The `gradflow` command inside this process, and the smallest run that has everything."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradflow.cli import main

CONFIGS = Path(__file__).parent.parent / "configs"
QUICKSTART = CONFIGS / "quickstart.yaml"
# Of tasks whose flow is known.
KNOWN = ("deep-linear", "matrix-factorisation", "separable", "committee", "ode")
# As overrides of a co-occurrence configuration.
SMALL = (
    "problem.samples=6",
    "problem.test_samples=6",
    "problem.length=3",
    "problem.vocabulary=8",
    "problem.width=4",
    "problem.neurons=4",
    "flow.t1=3",
    "flow.rtol=1e-3",
    "flow.save={kind: linear, count: 20}",
)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def gradflow(*arguments: object, err: io.StringIO | None = None) -> Done:
    """Run the command; `err` may stand in for a terminal."""
    out, err = io.StringIO(), err or io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, out.getvalue(), err.getvalue())


def listing(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: the contents of files, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
