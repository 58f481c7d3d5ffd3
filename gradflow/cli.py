"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import errno
import io
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from . import __version__

if TYPE_CHECKING:
    from .config import Config
    from .scaling import Study
    from .trajectory import Trajectory

MACHINE_FAILED, BAD_USAGE, NUMERICS_FAILED, INTERRUPTED = 1, 2, 3, 130

_CONFIG = click.argument("config", type=click.Path(path_type=Path))
_OVERRIDES = click.argument("overrides", nargs=-1, metavar="[key.path=value ...]")
_RUN = click.argument("run", metavar="DIR", type=click.Path(path_type=Path))


class _Commands(click.Group):
    """Ends every command alike where it is interrupted or the machine has not enough for it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that `ctx` names."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail("interrupted", INTERRUPTED)
        except MemoryError as error:
            _fail(f"not enough memory; make the problem smaller: {error}", MACHINE_FAILED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read the output has gone; click knows how
                raise
            reason = (error.strerror or str(error)).lower()
            _fail(
                f"cannot write {error.filename}: {reason}; what was written before is kept",
                MACHINE_FAILED,
            )


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="gradflow")
def main() -> None:
    """Gradient flow of JAX models, to a tolerance that means what it says."""


@main.command()
@_CONFIG
@_OVERRIDES
@click.option("--output", type=click.Path(path_type=Path), help="Directory of the run.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is there already.")
@click.option("--quiet", is_flag=True, help="No progress.")
def solve(
    config: Path, overrides: tuple[str, ...], output: Path | None, overwrite: bool, quiet: bool
) -> None:
    """Integrate what CONFIG describes; keep the run and print where it is.

    Any value of the file can be set from here, e.g. flow.rtol=1e-8. The run lands in the config's
    `output`, or else in runs/NAME with the config file's name.
    """
    loaded = _load(config, overrides)
    directory = output or Path(loaded.output or Path("runs") / config.stem)
    _join(loaded, config, overrides)
    _prepare(loaded)

    from . import experiment
    from .config import Fault, fault
    from .flow import FAILURES, RESULTS
    from .progress import Display
    from .scaling import Study
    from .storage import StorageError
    from .tasks import tabulated

    try:
        with (
            _Interrupt() as interrupted,
            Display(quiet) as display,
            _warnings_as_lines(),
            _users_code(config, overrides),
        ):
            act = experiment.run if loaded.scaling is None else experiment.scale
            outcome = act(
                loaded,
                directory,
                overwrite=overwrite,
                command=shlex.join(["gradflow", *sys.argv[1:]]),
                progress=display.update,
                cancelled=interrupted,
            )
    except StorageError as error:
        if output:
            _fail(str(Fault("--output", 1, 1, "", str(error))))
        _fail(str(fault(config, overrides, "output", str(error))))
    click.echo(str(directory))
    if isinstance(outcome, Study):
        _end_study(outcome, interrupted(), quiet)
        return
    trajectory, ensemble = outcome.flow, outcome.ensemble
    if ensemble is not None:
        for line in ensemble.findings:
            _say(line)
    for note in outcome.notes:
        _say(note)
    if ensemble is None and trajectory.result in FAILURES:
        _fail(
            f"failed at t = {trajectory.final_time:.6g}: {RESULTS[trajectory.result]}; "
            "what was computed is kept",
            NUMERICS_FAILED,
        )
    if outcome.cancelled:
        at = f"at t = {trajectory.final_time:.6g}"
        if ensemble is not None:
            at = f"after {len(ensemble.whole)} of {loaded.seeds} seeds"
        _fail(f"interrupted {at}; what was computed is kept", INTERRUPTED)
    if interrupted():
        _fail("interrupted when all was computed; the run is whole", INTERRUPTED)
    if not quiet:
        _say(_headline(loaded, trajectory))
        for line in outcome.comparison.findings if outcome.comparison is not None else ():
            _say(line)
        for line in outcome.critical_point.lines() if outcome.critical_point is not None else ():
            _say(line)
        for line in tabulated(outcome.claims):
            _say(line)
    if ensemble is not None and ensemble.failures:
        failed = f"{len(ensemble.failures)} of {loaded.seeds} seeds failed"
        _fail(f"{failed}; the others, and what was computed of these, are kept", NUMERICS_FAILED)


def _end_study(study: Study, interrupted: bool, quiet: bool) -> None:
    """Say what a scaling study has found, and what is missing."""
    from .scaling import tabulated

    for line in study.failures:
        _say(line)
    for line in tabulated(study.fits) if not quiet else ():
        _say(line)
    if study.cancelled:
        done, all_ = study.points
        _fail(f"interrupted after {done} of {all_} points; these are kept", INTERRUPTED)
    if interrupted:
        _fail("interrupted when all was computed; the run is whole", INTERRUPTED)
    if study.failures:
        _fail(f"{len(study.failures)} failed; the others are kept", NUMERICS_FAILED)


@main.command()
@_RUN
def plot(run: Path) -> None:
    """Draw the figures of the run in DIR again, from what was recorded."""
    from . import experiment
    from .config import ConfigError
    from .storage import StorageError

    try:
        written = experiment.replot(run)
    except (StorageError, ConfigError) as error:
        _fail(str(error))
    for path in written:
        click.echo(str(path))


@main.command()
@_RUN
def report(run: Path) -> None:
    """Put the run in DIR on one page, DIR/report.html, which needs no network."""
    from .report import write
    from .storage import StorageError

    try:
        written = write(run)
    except StorageError as error:
        _fail(str(error))
    click.echo(str(written))


@main.command()
@_CONFIG
@_OVERRIDES
def validate(config: Path, overrides: tuple[str, ...]) -> None:
    """Check CONFIG; print it with every default written out.

    A problem of your own is built too, to see whether it can be.
    """
    from .config import dump
    from .tasks import Python

    loaded = _load(config, overrides)
    if isinstance(loaded.problem, Python):
        _prepare(loaded)
        from .building import prepare

        with _users_code(config, overrides):
            prepare(loaded)
    click.echo(dump(loaded), nl=False)


@main.command()
def schema() -> None:
    """Print the JSON schema of a config, for editors."""
    import json

    from .config import schema

    click.echo(json.dumps(schema(), indent=2))


@main.command()
def doctor() -> None:
    """Show what this machine offers: versions, devices, precision, threads."""
    from .doctor import examine

    for line in examine():
        click.echo(line)


def _load(config: Path, overrides: tuple[str, ...]) -> Config:
    from .config import ConfigError, load

    try:
        return load(config, overrides)
    except ConfigError as error:
        _fail(str(error))


def _join(loaded: Config, config: Path, overrides: tuple[str, ...]) -> None:
    """Find the other processes of the run, if it has any; the first of them speaks for all."""
    if loaded.mesh is None or not loaded.mesh.distributed:
        return
    from ._devices import leads
    from .config import fault
    from .mesh import MeshError

    try:
        loaded.mesh.join()
    except MeshError as error:
        _fail(str(fault(config, overrides, f"mesh.{error.key}", str(error))))
    if not leads():
        context = click.get_current_context()
        context.with_resource(redirect_stdout(io.StringIO()))
        context.with_resource(redirect_stderr(io.StringIO()))


def _prepare(config: Config) -> None:
    """Set the precision and find the device before any array exists: later is too late."""
    import jax

    from .doctor import DeviceError, devices

    jax.config.update("jax_enable_x64", config.precision == "float64")
    try:
        devices()
    except DeviceError as error:
        _fail(str(error))


def _headline(config: Config, trajectory: Trajectory) -> str:
    from .analysis import Band
    from .experiment import final_loss
    from .report import phases

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
def _users_code(config: Path, overrides: tuple[str, ...]) -> Iterator[None]:
    """Tells what does not suit the user's problem, and what is wrong in it, as that.

    What the user's code prints goes where everything else does that is no result.
    """
    from ._blame import UsersError
    from .building import UnfitError
    from .config import fault

    try:
        with redirect_stdout(sys.stderr):
            yield
    except UnfitError as error:
        _fail(str(fault(config, overrides, error.key, str(error))))
    except UsersError as error:
        _fail(str(error))


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """What the library warns of, a line each and not where in its code."""
    from .descent import StabilityWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", StabilityWarning)
        warnings.showwarning = lambda message, *_: _say(f"warning: {message}")
        yield


class _Interrupt:
    """Ctrl-C asks the run to end and be kept; a second one ends the process."""

    def __init__(self) -> None:
        self._asked: float | None = None

    def __enter__(self) -> _Interrupt:
        signals = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._ask) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: object) -> None:
        del frame
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
            _say("interrupted: ending the run and keeping it (once more to quit at once)")
        elif now - self._asked > 1:  # sooner, a launcher has passed on what the terminal sent too
            sys.exit(128 + number)

    def __call__(self) -> bool:
        return self._asked is not None


def _say(text: str) -> None:
    click.echo(text, err=True)


def _fail(text: str, code: int = BAD_USAGE) -> NoReturn:
    _say(text)
    sys.exit(code)
