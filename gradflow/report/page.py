"""`write`: a stored run as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .. import storage
from ..config import Config, ConfigError
from ..config import load as load_config
from . import sections
from .header import header
from .html import page, section, tag
from .reproduction import reproduction
from .shown import Drawn, of_run, render
from .vector import inlined

STYLE = Path(__file__).with_name("style.css")


def write(directory: str | Path, drawn: Iterable[Drawn] | None = None) -> Path:
    """Write the report of a stored run into its directory: one HTML file that loads nothing else.

    Any run that `gradflow.load` reads has one: of a run that failed, was interrupted or killed, it
    says so and shows what there is.

    Args:
        directory: of the run.
        drawn: its figures with their SVG; otherwise all that it has are drawn.

    Returns:
        The file written, ``report.html``.

    Raises:
        StorageError: there is no run, or one of its files is damaged.
        OSError: the file cannot be written.

    >>> import gradflow as gf
    >>> from gradflow import storage
    >>> from pathlib import Path
    >>> storage.create(Path("killed"), {"versions": {"gradflow": "0.1"}}, overwrite=False)
    >>> page = gf.report.write("killed")
    >>> page.name, "Unfinished" in page.read_text(encoding="utf-8")
    ('report.html', True)
    """
    run = storage.load(directory)
    config, fault = None, ""
    try:
        config = load_config(run.config)
    except ConfigError as error:
        fault = f"No figures, for its {storage.CONFIG} cannot be used any more: {error}"
        if not run.config.exists():
            fault = f"It has no {storage.CONFIG}: it was killed before that was written."
    if drawn is None:
        drawn = ()
        if config is not None and not {"flow", "scaling"}.isdisjoint(run.trajectories):
            drawn = render(of_run(config.problem, run), ("svg",))
    path = run.directory / storage.REPORT
    storage.write(path, compose(run, config, drawn, fault).encode())
    return path


def compose(
    run: storage.Run, config: Config | None, drawn: Iterable[Drawn], fault: str = ""
) -> str:
    """The page.

    Args:
        run: what is on it.
        config: that of the run, if it can be read.
        drawn: the figures, with their SVG.
        fault: what there is to say where it cannot.
    """
    figures = [inlined(figure) for figure in drawn]
    return page(
        f"{run.directory.resolve().name} – gradflow",
        STYLE.read_text(encoding="utf-8"),
        header(run, config),
        tag("p", fault, class_="bad") if fault else None,
        sections.headline(run),
        sections.settings(config.problem.model_dump(mode="json")) if config is not None else None,
        sections.descents(run),
        sections.scalings(run),
        sections.certified(run),
        section("Figures", tag("div", *figures, class_="figures")) if figures else None,
        sections.claimed(run),
        reproduction(run, config),
    )
