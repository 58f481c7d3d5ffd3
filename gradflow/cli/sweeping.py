"""`sweep`: all points of a configuration are run, and what came of them told."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .ending import INTERRUPTED, MACHINE_FAILED, NUMERICS_FAILED, Interrupt, fail, say
from .running import Source

if TYPE_CHECKING:
    from ..sweep import Plan


def plan(config: Path, overrides: Sequence[str]) -> Plan:
    """What a sweep consists of, or the end of the command."""
    from .. import sweep
    from ..config import ConfigError

    try:
        return sweep.plan(config, overrides)
    except ConfigError as error:
        fail(str(error))


def sweep_and_tell(
    config: Path,
    overrides: Sequence[str],
    output: Path | None,
    *,
    workers: int | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    retry: bool,
    quiet: bool,
) -> None:
    """Run the points that are missing; print where they are, and say how it went."""
    from .. import sweep
    from ..progress import Display
    from ..storage import StorageError

    points = plan(config, overrides)
    try:
        who = sweep.Workers(workers, scheduler, scheduler_file)
    except ValueError as error:
        fail(str(error))
    source = Source(config, overrides, "--output" if output else "output")
    directory = output or Path(points.points[0].config.output or Path("runs") / config.stem)
    try:
        with Interrupt() as interrupted, Display(quiet, "starting workers") as display:
            outcome = sweep.run(
                points,
                directory,
                workers=who,
                retry=retry,
                command=shlex.join(["gradflow", *sys.argv[1:]]),
                progress=lambda standing: display.show(str(standing), standing.fraction),
                cancelled=interrupted,
            )
    except StorageError as error:
        fail(str(source.no_place(str(error))))
    except sweep.ClusterError as error:
        fail(str(error), MACHINE_FAILED)
    click.echo(str(directory))
    for line in outcome.failures:
        say(line)
    if outcome.cancelled:
        fail(f"interrupted, {outcome.standing}; the same command goes on from here", INTERRUPTED)
    if not quiet:
        say(str(outcome.standing))
        for reason, count in Counter(outcome.record.attrs["left_out"].values()).items():
            say(f"{count} series not in sweep.nc: {reason} (summary.json names them)")
    if outcome.failures:
        fail("the others are kept; --retry runs those again that have failed", NUMERICS_FAILED)
