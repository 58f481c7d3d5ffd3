"""Work-precision diagrams of chosen problems, draws and methods."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path

import click
import jax

from benchmarks.methods import METHODS, Setting
from benchmarks.problems import PROBLEMS
from benchmarks.suite import Outcome, Record, made, page

from . import FAMILY, draw, found
from .measure import Budget, measure

_SMALL = [name for name, case in PROBLEMS.items() if "large" not in case.tags]


class _Names(click.ParamType):
    """Names with commas between them."""

    name = "NAME[,NAME]"

    def __init__(self, allowed: list[str]) -> None:
        self.allowed = allowed

    def convert(self, value, param, ctx):
        """The names as a list."""
        if isinstance(value, list):
            return value
        names = [name.strip() for name in value.split(",")]
        if unknown := sorted(set(names) - set(self.allowed)):
            self.fail(f"there is no {', '.join(unknown)}; there are {', '.join(self.allowed)}")
        return names


@click.command(context_settings={"show_default": True})
@click.option("--problems", type=_Names(list(PROBLEMS)), default=_SMALL, show_default="all small")
@click.option("--methods", type=_Names(list(METHODS)), default=list(METHODS), show_default="all")
@click.option("--seeds", default=1, help="Draws of each problem.")
@click.option("--first", default=0, help="How many of a problem's draws to pass over.")
@click.option("--quick", is_flag=True, help="Every other tolerance.")
@click.option("--repeats", default=Budget.repeats, help="Runs of which the median is taken.")
@click.option("--repeat-below", default=Budget.repeat_below, help="Seconds; slower run once.")
@click.option("--limit", default=Budget.limit, help="Seconds; slower go no tighter.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="The file to write.")
@click.option("--figures", type=click.Path(path_type=Path), help="The directory to draw in.")
def main(
    problems: list[str],
    methods: list[str],
    seeds: int,
    first: int,
    path: Path | None,
    figures: Path | None,
    **budget,
) -> None:
    """Error against gradients and against wall time, on chosen test problems.

    The file is one of the suite's: `python -m benchmarks --read FILE` shows it again.
    """
    record = Record(made(budget["quick"]))
    outcome = Outcome(FAMILY.name, FAMILY.what, 0.0)
    record.outcomes.append(outcome)
    began, draws = time.perf_counter(), []
    budget = Budget(**{field.name: budget[field.name] for field in fields(Budget)})
    for name in problems:
        case = PROBLEMS[name]
        for seed in case.seeds[first:][:seeds]:
            setting = Setting.of(case, seed)
            draws.append(measure(setting, [METHODS[m] for m in methods], budget, _say))
            outcome.findings = found(draws)
            outcome.wall = time.perf_counter() - began
            if path is not None:
                record.write(path)
    click.echo(f"{page.head(record.made)}\n\n{page.section(outcome)}")
    if figures is not None and outcome.findings is not None:
        figures.mkdir(parents=True, exist_ok=True)
        for drawn in draw(outcome.findings, figures):
            _say(f"drawn: {drawn}")


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(prog_name="python -m benchmarks.families.work_precision")
