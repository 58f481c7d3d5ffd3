"""Family E, start-up: imports, the command cold and warm, recompilations.

Whole processes on one machine, by turns. Cold is the first command in an empty folder of compiled
programs, warm is the same command again, off keeps none. What it needs is all that it has imported
of others' code by its end; the bare import is a process that imports these modules and does nothing
else.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradflow as gf
from gradflow.compiled import OFF, VARIABLE

from ..problems import PROBLEMS
from ..suite import Column, Criterion, Effort, Family, Findings, Kind, Table, alternating, ratios
from ..suite import seconds as timed

CONFIGS = Path(__file__).parents[2] / "configs"
ALONE = ("flow.certify=false", "descent=null")
# What is solved: a configuration, and what of it is changed.
COMMANDS = {"quickstart": (), "cooccurrence": (), "cooccurrence, flow alone": ALONE}
IMPORTS = {
    "nothing": ("-c", "pass"),
    "click": ("-c", "import click"),
    "diffrax": ("-c", "import diffrax"),
    "gradflow": ("-c", "import gradflow"),
    "gf.solve": ("-c", "import gradflow as gf; gf.Problem, gf.solve"),
    "gradflow --help": ("-m", "gradflow", "--help"),
}
# Prints what the command that follows has imported of others' code.
NEEDED = """
import sys
from gradflow.__main__ import run
try:
    run()
finally:
    own = {"gradflow", "__main__", "__mp_main__", *sys.stdlib_module_names}
    print(*(name for name in sys.modules if name.partition(".")[0] not in own), sep="\\n")
"""
# Some extension modules go by names that they cannot be imported by, but with their packages.
BARE = """
import importlib, sys
from contextlib import suppress
for name in sys.argv[1:]:
    with suppress(ImportError):
        importlib.import_module(name)
"""


def process(*arguments: str, kept: str = OFF) -> str:
    """What a Python prints that keeps its compiled programs in `kept` alone."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    command = [sys.executable, *arguments]
    environment = told | {VARIABLE: kept}
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout


def imports(rounds: int) -> Table:
    """Whole processes that import, each as a multiple of diffrax's."""
    runs = {name: partial(process, *arguments) for name, arguments in IMPORTS.items()}
    taken = alternating(runs, rounds)
    columns = (Column("process"), Column("wall", Kind.SECONDS))
    table = Table("Imports", (*columns, Column("of `import diffrax`", Kind.RATIO)))
    for name, times in taken.items():
        table.add(name, times, ratios(times, taken["diffrax"]))
    return table


def command(name: str, rounds: int) -> dict[str, Any]:
    """Seconds of one command in every state of the cache, those of its imports, and compiling.

    Returns:
        ``wall`` and ``compiling``, seconds of every round by state, and ``modules``, how many.
    """
    config, *overrides = (CONFIGS / f"{name.partition(',')[0]}.yaml", *COMMANDS[name])
    states = ("cold", "warm", "off")
    wall: dict[str, list[float]] = {state: [] for state in (*states, "bare")}
    compiling: dict[str, list[float]] = {state: [] for state in states}
    with tempfile.TemporaryDirectory() as folder:

        def solve(number: int, state: str) -> None:
            out = Path(folder, f"{state}-{number}")
            kept = OFF if state == "off" else str(Path(folder, f"kept-{number}"))
            run = ("-m", "gradflow", "solve", str(config), *overrides, "--output", str(out))
            wall[state].append(timed(lambda: process(*run, "--quiet", kept=kept)))
            summary = json.loads((out / "summary.json").read_text())
            compiling[state].append(summary["flow"]["compile_seconds"])

        run = ("solve", str(config), *overrides, "--output", f"{folder}/first", "--quiet")
        printed = process("-c", NEEDED, *run).splitlines()
        modules = printed[1:]  # after the place of the run
        process("-c", BARE, *modules)  # so that its files are in memory, as those of the command
        for number in range(rounds):
            for state in states:
                solve(number, state)
            wall["bare"].append(timed(lambda: process("-c", BARE, *modules)))
    return {"wall": wall, "compiling": compiling, "modules": len(modules)}


def recompilations() -> Table:
    """Programs that a call asks for after another, of which one value was different."""
    case = PROBLEMS["transformer"]
    problem, other = case.build(0), case.build(1)
    save, limits = gf.Logarithmic(count=40, start=1e-3), gf.Stop(loss=1e-9, gradient_norm=1e-9)
    flow = partial(gf.solve, t1=1.0, rtol=1e-4, save=save, stop=limits)
    steps = partial(gf.descend, learning_rate=1e-3, steps=50, save=gf.Linear(count=20))
    calls: dict[tuple[str, str], Callable[[], Any]] = {
        ("solve", "the first call"): lambda: flow(problem),
        ("solve", "t1"): lambda: flow(problem, t1=1.5),
        ("solve", "rtol"): lambda: flow(problem, rtol=3e-4),
        ("solve", "stop values"): lambda: flow(problem, stop=gf.Stop(loss=1e-8, gradient_norm=0.1)),
        ("solve", "step limit"): lambda: flow(problem, max_steps=10_000),
        ("solve", "save times"): lambda: flow(problem, save=gf.Logarithmic(count=40, start=1e-2)),
        ("solve", "seed: data and parameters"): lambda: flow(other),
        ("descend", "the first call"): lambda: steps(problem),
        ("descend", "learning rate"): lambda: steps(problem, learning_rate=2e-3),
        ("descend", "steps"): lambda: steps(problem, steps=70),
        ("descend", "seed: data and parameters"): lambda: steps(other),
    }
    table = Table(
        f"Programs asked of the compiler, {case.name}",
        (Column("call"), Column("what is different"), Column("programs", Kind.COUNT)),
    )
    for (verb, what), call in calls.items():
        with requests() as found:
            call()
        table.add(verb, what, len(found))
    return table


def measure(effort: Effort) -> Findings:
    """Imports, commands, and what is compiled again."""
    rounds, findings = effort.pick(5, 3), Findings()
    effort.say("imports")
    findings.tables.append(imports(rounds))
    columns = (Column("command"), Column("compiled programs"), Column("wall", Kind.SECONDS))
    table = Table(
        "`gradflow solve`, the whole process",
        (*columns, Column("of the bare import", Kind.RATIO), Column("compiling", Kind.SECONDS)),
        note="cold: none kept yet; warm: the same command again; off: none are kept.",
    )
    warm: dict[str, float] = {}
    for name in COMMANDS:
        if effort.quick and name != "quickstart":
            findings.skipped.append(f"{name}: takes too long for --quick")
            continue
        effort.say(f"gradflow solve, {name}")
        found = command(name, rounds)
        wall, compiling = found["wall"], found["compiling"]
        for state, times in wall.items():
            ratio = ratios(times, wall["bare"])
            table.add(
                name,
                "bare import" if state == "bare" else state,
                times,
                ratio,
                compiling.get(state),
            )
        warm[name] = statistics.median(ratios(wall["warm"], wall["bare"]))
        saved = 1 - statistics.median(compiling["warm"]) / statistics.median(compiling["off"])
        table.note += f" {name}: the cache saves {100 * saved:.0f} % of the time of compiling."
    effort.say("recompilations")
    again = recompilations()
    findings.tables += [table, again]
    findings.criteria = [
        Criterion("second identical command / bare import of what it needs", 1.5, warm),
        Criterion(
            "programs compiled for changed values",
            0,
            {f"{verb}, {what}": n for verb, what, n in again.rows if what != "the first call"},
        ),
    ]
    return findings


FAMILY = Family("startup", "E", "how long does a user wait before the first step?", measure)
