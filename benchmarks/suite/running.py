"""Runs families one after the other, and keeps what each has found."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
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
            outcome.failure = f"{type(error).__name__}: {error}"
        outcome.wall = time.perf_counter() - began
        record.outcomes.append(outcome)
        if path is not None:
            record.write(path)
        found(outcome)
        # Programs of one family are of no use to the next, and fill the memory.
        jax.clear_caches()


def draw(families: dict[str, Family], outcome: Outcome, directory: Path) -> list[Path]:
    """The figures of what a family has found, in `directory`; none of one that failed."""
    family = families.get(outcome.name)
    if family is None or family.draw is None or outcome.findings is None:
        return []
    directory.mkdir(parents=True, exist_ok=True)
    return family.draw(outcome.findings, directory)
