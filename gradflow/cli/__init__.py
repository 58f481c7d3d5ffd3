"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import click

from .. import __version__
from .ending import INTERRUPTED, MACHINE_FAILED, fail
from .running import Source, load, prepare, solve_and_tell, users_code

_CONFIG = click.argument("config", type=click.Path(path_type=Path))
_OVERRIDES = click.argument("overrides", nargs=-1, metavar="[key.path=value ...]")
_RUN = click.argument("run", metavar="DIR", type=click.Path(path_type=Path))
_QUIET = click.option("--quiet", is_flag=True, help="No progress.")


class _Commands(click.Group):
    """Ends every command alike where it is interrupted or the machine has not enough for it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that `ctx` names."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            fail("interrupted", INTERRUPTED)
        except MemoryError as error:
            fail(f"not enough memory; make the problem smaller: {error}", MACHINE_FAILED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read the output has gone; click knows how
                raise
            reason = (error.strerror or str(error)).lower()
            fail(
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
@click.option("--resume", is_flag=True, help="Go on with the run that is there, if there is one.")
@_QUIET
def solve(
    config: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
    resume: bool,
    quiet: bool,
) -> None:
    """Integrate what CONFIG describes; keep the run and print where it is.

    Any value of the file can be set from here, e.g. flow.rtol=1e-8. The run lands in the config's
    `output`, or else in runs/NAME with the config file's name.
    """
    if resume and overwrite:
        fail("--resume goes on with a run and --overwrite replaces it; allowed: one of them")
    loaded = load(config, overrides)
    directory = output or Path(loaded.output or Path("runs") / config.stem)
    source = Source(config, overrides, "--output" if output else "output")
    solve_and_tell(loaded, source, directory, overwrite=overwrite, resume=resume, quiet=quiet)


@main.command()
@_RUN
@_QUIET
def resume(run: Path, quiet: bool) -> None:
    """Go on with the run in DIR, which was interrupted or cut off."""
    from .. import storage

    config = run / storage.CONFIG
    try:
        if "sweep" in storage.read_manifest(run):
            fail(f"{run} is a sweep; go on with: gradflow sweep {config} --output {run}")
    except storage.StorageError as error:
        fail(str(error))
    if not config.exists():
        fail(f"{run} was cut off before it had begun: run it again, with --overwrite")
    solve_and_tell(load(config), Source(config, (), "DIR"), run, resume=True, quiet=quiet)


@main.command()
@_CONFIG
@_OVERRIDES
@click.option("--output", type=click.Path(path_type=Path), help="Directory of the sweep.")
@click.option("--workers", type=int, help="Processes; one for each GPU or processor by default.")
@click.option("--scheduler", help="Address of a Dask scheduler that runs already.")
@click.option("--scheduler-file", type=click.Path(path_type=Path), help="File with its address.")
@click.option("--retry", is_flag=True, help="Run points again that have failed before.")
@_QUIET
def sweep(
    config: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    retry: bool,
    quiet: bool,
    **who: Any,
) -> None:
    """Run all that CONFIG describes with {sweep: [...]} in the place of values.

    Points that are there already are kept: the same command goes on with a sweep that was ended,
    or has grown.
    """
    from .sweeping import sweep_and_tell

    sweep_and_tell(config, overrides, output, retry=retry, quiet=quiet, **who)


@main.command()
@_RUN
def plot(run: Path) -> None:
    """Draw the figures of the run in DIR again, from what was recorded."""
    from .. import sweep
    from ..config import ConfigError
    from ..storage import StorageError

    try:
        written = sweep.replot(run)
    except (StorageError, ConfigError) as error:
        fail(str(error))
    for path in written:
        click.echo(str(path))


@main.command()
@_RUN
def report(run: Path) -> None:
    """Put the run in DIR on one page, DIR/report.html, which needs no network."""
    from ..storage import StorageError
    from ..sweep import write_report

    try:
        written = write_report(run)
    except StorageError as error:
        fail(str(error))
    click.echo(str(written))


@main.command()
@_CONFIG
@_OVERRIDES
def validate(config: Path, overrides: tuple[str, ...]) -> None:
    """Check CONFIG; print it with every default written out.

    A problem of your own is built too, to see whether it can be. Of a sweep it is printed what it
    consists of.
    """
    from .. import sweep
    from ..config import dump
    from ..tasks import Python
    from .sweeping import plan

    if sweep.is_sweep(config, overrides):
        return click.echo(str(plan(config, overrides)))
    loaded = load(config, overrides)
    if isinstance(loaded.problem, Python):
        prepare(loaded)
        from ..building import prepare as build

        with users_code(Source(config, overrides, "")):
            build(loaded)
    click.echo(dump(loaded), nl=False)


@main.command()
def schema() -> None:
    """Print the JSON schema of a config, for editors."""
    import json

    from ..sweep import schema

    click.echo(json.dumps(schema(), indent=2))


@main.command()
def doctor() -> None:
    """Show what this machine offers: versions, devices, precision, threads."""
    from ..doctor import examine

    for line in examine():
        click.echo(line)
