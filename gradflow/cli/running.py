"""`solve` and `resume`: a configuration is run, and what came of it told."""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from .ending import INTERRUPTED, NUMERICS_FAILED, Interrupt, fail, say, warnings_as_lines

if TYPE_CHECKING:
    from ..config import Config, Fault
    from ..experiment import Outcome
    from ..scaling import Study
    from ..trajectory import Trajectory


class Source(NamedTuple):
    """Where a configuration comes from.

    Attributes:
        config: its file.
        overrides: given on the command line.
        output: what has named the directory: an option, an argument, or a key.
    """

    config: Path
    overrides: Sequence[str]
    output: str

    def fault(self, key: str, message: str) -> Fault:
        """What is wrong with a value, where it stands."""
        from ..config import fault

        return fault(self.config, self.overrides, key, message)

    def no_place(self, message: str) -> Fault:
        """What is wrong with the directory."""
        from ..config import Fault

        if self.output == "output":
            return self.fault(self.output, message)
        return Fault(self.output, 1, 1, "", message)


def solve_and_tell(
    config: Config,
    source: Source,
    directory: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> None:
    """Do what `config` says in `directory`; print where it is, and say how it went."""
    _join(config, source)
    prepare(config)

    from .. import experiment
    from ..manifest import ChangedError, EndedError
    from ..progress import Display
    from ..scaling import Study
    from ..storage import StorageError

    try:
        with (
            Interrupt() as interrupted,
            Display(quiet) as display,
            warnings_as_lines(),
            users_code(source),
        ):
            act = experiment.run if config.scaling is None else experiment.scale
            outcome = act(
                config,
                directory,
                overwrite=overwrite,
                resume=resume,
                command=shlex.join(["gradflow", *sys.argv[1:]]),
                progress=display.update,
                cancelled=interrupted,
            )
    except ChangedError as error:
        ways = "allowed: as it was, or another directory"
        faults = (source.fault(key, f"{told}; {ways}") for key, told in error.changes.items())
        fail("\n".join(map(str, sorted(faults))))
    except EndedError as error:
        click.echo(str(directory))
        _end_again(directory, str(error))
        return
    except StorageError as error:
        fail(str(source.no_place(str(error))))
    click.echo(str(directory))
    go_on = f"go on with: gradflow resume {shlex.quote(str(directory))}"
    if isinstance(outcome, Study):
        _end_study(outcome, interrupted(), quiet, go_on)
    else:
        _end(outcome, config, interrupted(), quiet, go_on)


def _end(outcome: Outcome, config: Config, interrupted: bool, quiet: bool, go_on: str) -> None:
    """Say what a run has found, and what is missing."""
    from ..flow import FAILURES, RESULTS
    from ..tasks import tabulated

    trajectory, ensemble = outcome.flow, outcome.ensemble
    if ensemble is not None:
        for line in ensemble.findings:
            say(line)
    for note in outcome.notes:
        say(note)
    if ensemble is None and trajectory.result in FAILURES:
        fail(
            f"failed at t = {trajectory.final_time:.6g}: {RESULTS[trajectory.result]}; "
            "what was computed is kept",
            NUMERICS_FAILED,
        )
    if outcome.cancelled:
        at = f"at t = {trajectory.final_time:.6g}"
        if ensemble is not None:
            at = f"after {len(ensemble.whole)} of {config.seeds} seeds"
        fail(f"interrupted {at}; what was computed is kept; {go_on}", INTERRUPTED)
    if interrupted:
        fail("interrupted when all was computed; the run is whole", INTERRUPTED)
    if not quiet:
        say(_headline(config, trajectory))
        for line in outcome.comparison.findings if outcome.comparison is not None else ():
            say(line)
        for line in outcome.critical_point.lines() if outcome.critical_point is not None else ():
            say(line)
        for line in tabulated(outcome.claims):
            say(line)
    if ensemble is not None and ensemble.failures:
        failed = f"{len(ensemble.failures)} of {config.seeds} seeds failed"
        fail(f"{failed}; the others, and what was computed of these, are kept", NUMERICS_FAILED)


def _end_again(directory: Path, told: str) -> None:
    """Say of a run that cannot go on how it has ended."""
    from ..flow import FAILURES
    from ..storage import load

    result = load(directory).summary.get("flow", {}).get("result")
    if result in FAILURES:
        fail(f"{told}: it failed with {result}", NUMERICS_FAILED)
    say(told)


def _end_study(study: Study, interrupted: bool, quiet: bool, go_on: str) -> None:
    """Say what a scaling study has found, and what is missing."""
    from ..scaling import tabulated

    for line in study.failures:
        say(line)
    for line in tabulated(study.fits) if not quiet else ():
        say(line)
    if study.cancelled:
        done, all_ = study.points
        fail(f"interrupted after {done} of {all_} points; these are kept; {go_on}", INTERRUPTED)
    if interrupted:
        fail("interrupted when all was computed; the run is whole", INTERRUPTED)
    if study.failures:
        fail(f"{len(study.failures)} failed; the others are kept", NUMERICS_FAILED)


def load(config: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a file, or the end of the command."""
    from ..config import ConfigError, load

    try:
        return load(config, overrides)
    except ConfigError as error:
        fail(str(error))


def _join(config: Config, source: Source) -> None:
    """Find the other processes of the run, if it has any; the first of them speaks for all."""
    if config.mesh is None or not config.mesh.distributed:
        return
    from .._devices import leads
    from ..mesh import MeshError

    try:
        config.mesh.join()
    except MeshError as error:
        fail(str(source.fault(f"mesh.{error.key}", str(error))))
    if not leads():
        context = click.get_current_context()
        context.with_resource(redirect_stdout(io.StringIO()))
        context.with_resource(redirect_stderr(io.StringIO()))


def prepare(config: Config) -> None:
    """Set the precision and find the device before any array exists: later is too late.

    Find what earlier commands have compiled, too.
    """
    import jax

    from .. import compiled
    from ..doctor import DeviceError, devices

    try:
        compiled.keep()
    except compiled.PlaceError as error:
        say(f"warning: {error}; see gradflow doctor")
    jax.config.update("jax_enable_x64", config.precision == "float64")
    try:
        devices()
    except DeviceError as error:
        fail(str(error))


def _headline(config: Config, trajectory: Trajectory) -> str:
    from ..analysis import Band
    from ..experiment import final_loss
    from ..report import phases

    stats = trajectory.stats
    said = [f"t = {trajectory.final_time:.6g}"]
    if config.seeds > 1:
        said.insert(0, f"{config.seeds} seeds")
    if (loss := final_loss(trajectory)) is not None:
        said.append(f"loss {loss:.4g}")
    said.append(f"{stats['gradient_evaluations']} gradient evaluations with {stats['solver']}")
    if (error := stats.get("error_estimate")) is not None:
        said.append(f"error estimated at {error:.2g}")
    for name, when in phases(config.problem, trajectory).items():
        if isinstance(when, Band):
            said.append(f"{name} = {when.median:.4g} ({when.low:.4g} to {when.high:.4g})")
        else:
            said.append(f"{name} not reached" if when is None else f"{name} = {when:.4g}")
    said.append(f"{stats['wall_seconds']:.2f} s after {stats['compile_seconds']:.2f} s compiling")
    return ", ".join(said)


@contextmanager
def users_code(source: Source) -> Iterator[None]:
    """Tells what does not suit the user's problem, and what is wrong in it, as that.

    What the user's code prints goes where everything else does that is no result.
    """
    from .._blame import UsersError
    from ..building import UnfitError

    try:
        with redirect_stdout(sys.stderr):
            yield
    except UnfitError as error:
        fail(str(source.fault(error.key, str(error))))
    except UsersError as error:
        fail(str(error))
