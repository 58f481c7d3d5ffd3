"""Work-precision diagrams of test problems: error against gradients and against wall time.

Errors are |theta - reference|_2 / |reference - theta_0|_2, at the end and the worst of 60 times
spaced evenly in log t. Gradients count rejected steps and estimators, and a Hessian-vector
product twice. Seconds are medians of runs that alternate between the methods, compiled before;
all record the same 60 states. Prints a table and, computed from it, what the stiff regime is
judged by.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import jax

from benchmarks.methods import METHODS, Setting
from benchmarks.problems import PROBLEMS

from .criteria import criteria
from .figures import save
from .measure import HEAD, Effort, line, measure
from .record import Draw, read, write

_SMALL = [name for name, case in PROBLEMS.items() if "large" not in case.tags]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    draws: list[Draw] = []
    for path in options.read or ():
        draws += read(path)
    if options.read is None:
        effort = Effort(**{f.name: getattr(options, f.name) for f in fields(Effort)})
        for name in options.problems:
            case = PROBLEMS[name]
            for seed in case.seeds[options.first :][: options.seeds]:
                methods = [METHODS[m] for m in options.methods]
                setting = Setting.of(case, seed)
                draws.append(measure(setting, methods, effort, _report))
                if options.json is not None:
                    write(options.json, draws)
    print(HEAD)
    for draw in draws:
        for point in draw.points:
            print(line(draw, point))
        for method, message in draw.failures.items():
            print(f"{draw.name:<22}{method:<20} failed {message}")
    print()
    for criterion in criteria(draws):
        print(criterion)
    if options.figures is not None:
        for draw in draws:
            print(save(draw, options.figures))


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.work_precision", description=__doc__
    )

    def names(allowed: Sequence[str]):
        def parse(text: str) -> list[str]:
            found = [name.strip() for name in text.split(",")]
            if unknown := sorted(set(found) - set(allowed)):
                raise argparse.ArgumentTypeError(
                    f"there is no {', '.join(unknown)}; there are {', '.join(allowed)}"
                )
            return found

        return parse

    add = parser.add_argument
    add("--problems", type=names(list(PROBLEMS)), default=_SMALL, help="default: all small ones")
    add("--methods", type=names(list(METHODS)), default=list(METHODS), help="default: all")
    add("--seeds", type=int, default=1, help="draws of each problem")
    add("--first", type=int, default=0, help="how many of a problem's draws to pass over")
    add("--quick", action="store_true", help="every other tolerance")
    add("--repeats", type=int, default=Effort.repeats, help="runs of which the median is taken")
    add("--repeat-below", type=float, default=Effort.repeat_below, help="seconds; slower run once")
    add("--limit", type=float, default=Effort.limit, help="seconds; slower go no tighter")
    add("--json", type=Path, help="where to write what was measured")
    add("--read", type=Path, nargs="+", help="such files, instead of measuring")
    add("--figures", type=Path, help="the directory to draw figures in")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
