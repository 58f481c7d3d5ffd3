"""The benchmark suite in one run: ``python -m benchmarks``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from .suite import Family, Outcome, Record

INTERRUPTED = 130
_FILE = click.Path(path_type=Path, dir_okay=False)
_READABLE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--quick", is_flag=True, help="Measure less: minutes on two cores.")
@click.option("--only", metavar="NAME[,NAME]", help="These families alone.")
@click.option("--list", "listed", is_flag=True, help="Name the families, and measure nothing.")
@click.option("--json", "path", type=_FILE, help="Where to write what was found.")
@click.option("--figures", type=click.Path(path_type=Path, file_okay=False), help="Where to draw.")
@click.option("--read", type=_READABLE, help="Such a file, instead of measuring.")
@click.option(
    "--compare", nargs=2, type=_READABLE, metavar="OLD NEW", help="What changed between two."
)
def main(
    quick: bool,
    only: str | None,
    listed: bool,
    path: Path | None,
    figures: Path | None,
    read: Path | None,
    compare: tuple[Path, Path] | None,
) -> None:
    """Measure gradflow against what its users would take instead, as ratios, in one run.

    Prints Markdown; what is under way goes to stderr. Exits with 1 where a family failed, or where
    --compare finds a count that rose, or a row or a criterion that no longer holds or is there.
    """
    if read is not None and path is not None:
        raise click.UsageError("--read measures nothing, so --json has nothing to write")
    if read is not None and quick:
        raise click.UsageError("--read measures nothing, so --quick has nothing to shorten")
    if compare is not None:
        if any((quick, only, listed, path, figures, read)):
            raise click.UsageError("--compare reads two files, and takes no other option")
        sys.exit(_compare(*compare))
    import jax

    jax.config.update("jax_enable_x64", True)  # before any array exists
    from .suite import discover

    families = discover()
    if only is not None:
        families = _chosen(families, only)
    if listed:
        for family in families.values():
            click.echo(f"{family.letter}  {family.name:<22}{family.what}")
        return
    if read is not None:
        record = _read(read)
        record.outcomes = [
            each for each in record.outcomes if only is None or each.name in families
        ]
        _page(record, families, figures)
        return
    sys.exit(_measure(families, quick, path, figures))


def _measure(
    families: dict[str, Family], quick: bool, path: Path | None, figures: Path | None
) -> int:
    """Measures, and prints each family as it ends; returns the exit code."""
    from .suite import Effort, Record, made, page, run

    record = Record(made(quick))
    click.echo(page.head(record.made))
    effort = Effort(quick, lambda line: click.echo(line, err=True))
    try:
        run(families.values(), effort, record, _shown(families, figures), path)
    except KeyboardInterrupt:
        kept = f"; {path} has what ended before" if path and record.outcomes else ""
        click.echo(f"interrupted{kept}", err=True)
        return INTERRUPTED
    click.echo(f"\n{page.summary(record)}")
    return int(any(outcome.failure for outcome in record.outcomes))


def _page(record: Record, families: dict[str, Family], figures: Path | None) -> None:
    """All of a record that is there already."""
    from .suite import page

    click.echo(page.head(record.made))
    for outcome in record.outcomes:
        _shown(families, figures)(outcome)
    click.echo(f"\n{page.summary(record)}")


def _shown(families: dict[str, Family], figures: Path | None) -> Callable[[Outcome], None]:
    """Prints a family, and draws its figures."""
    from .suite import draw, page

    def show(outcome: Outcome) -> None:
        click.echo(f"\n{page.section(outcome)}")
        if figures is not None:
            say = partial(click.echo, err=True)
            for drawn in draw(families, outcome, figures, say):
                say(f"drawn: {drawn}")

    return show


def _compare(old: Path, new: Path) -> int:
    """Prints what changed; 1 if something got worse that may not."""
    from .suite import circumstances, compare

    before, after = _read(old), _read(new)
    for line in circumstances(before, after):
        click.echo(line)
    comparisons = compare(before, after)
    for comparison in comparisons:
        for change in comparison.changes:
            click.echo(f"- {change}")
        click.echo(comparison)
    return int(any(change.worse for each in comparisons for change in each.changes))


def _read(path: Path) -> Record:
    from .suite import Record

    try:
        return Record.read(path)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _chosen(families: dict[str, Any], only: str) -> dict[str, Any]:
    """Those that are named, in their own order.

    Raises:
        click.BadParameter: there is none of a name.
    """
    names = [name.strip() for name in only.split(",")]
    for name in names:
        if name not in families:
            near = difflib.get_close_matches(name, families, 1)
            guess = f" (did you mean {near[0]}?)" if near else ""
            raise click.BadParameter(
                f"there is no {name!r}{guess}; there are {', '.join(families)}",
                param_hint="--only",
            )
    return {name: family for name, family in families.items() if name in names}


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
