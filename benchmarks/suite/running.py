"""Runs families one after the other, and keeps what each has found."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import jax

from .family import Effort, Family
from .record import Outcome, Record


def run(
    families: Iterable[Family],
    effort: Effort,
    record: Record,
    found: Callable[[Outcome], None],
    path: Path | None = None,
) -> None:
    """Measures the families; one that raises is recorded as failed, and the others go on.

    So is one whose findings cannot be written; `found` is told of them all the same.

    Args:
        families: in this order.
        effort: how much is measured.
        record: gets an outcome of each.
        found: told of each outcome.
        path: the file that is written after each, so that an interrupt loses one family at most.
    """
    for family in families:
        effort.say(f"{family.name}: {family.what}")
        began = time.perf_counter()
        outcome = Outcome(family.name, family.what, 0.0)
        try:
            outcome.findings = family.measure(effort)
        except Exception as error:
            effort.say(traceback.format_exc())
            outcome.failure = _line(error)
        outcome.wall = time.perf_counter() - began
        record.outcomes.append(outcome)
        if path is not None:
            try:
                record.write(path)
            except Exception as error:
                failure = f"not written to {path}, {_line(error)}"
                effort.say(f"{family.name}: {failure}")
                # Without its findings, which would keep those of the next from being written.
                record.outcomes[-1] = replace(outcome, findings=None, failure=failure)
        found(outcome)
        # Programs of one family are of no use to the next, and fill the memory.
        jax.clear_caches()


def draw(
    families: dict[str, Family], outcome: Outcome, directory: Path, say: Callable[[str], None]
) -> list[Path]:
    """The figures of what a family has found, in `directory`; none of one that failed.

    `say` is told if they cannot be drawn.
    """
    family = families.get(outcome.name)
    if family is None or family.draw is None or outcome.findings is None:
        return []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return family.draw(outcome.findings, directory)
    except Exception as error:
        say(f"{outcome.name}: not drawn, {_line(error)}")
        return []


def _line(error: Exception) -> str:
    """What an error is and the first line of what it says."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
