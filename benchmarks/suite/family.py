"""A family of benchmarks: one question, measured on one machine in one go."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .criterion import Criterion
from .table import Table


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        quick: fewer problems, tolerances and rounds, so that the whole suite takes minutes. What
            is measured is measured in full: no run is shortened.
        say: told what is under way, a line at a time.
    """

    quick: bool = False
    say: Callable[[str], None] = print

    def pick(self, full: Any, quick: Any) -> Any:
        """The one of two that suits."""
        return quick if self.quick else full


@dataclass
class Findings:
    """What a family has found; all of it goes into the file.

    Attributes:
        tables: what was measured.
        criteria: what it must show.
        skipped: what was not measured, each with the reason in a word.
        data: more, of JSON's types, for the family's own figures.
    """

    tables: list[Table] = field(default_factory=list)
    criteria: list[Criterion] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    data: Any = None


@dataclass(frozen=True)
class Family:
    """A question, and how it is answered.

    Attributes:
        name: what ``--only`` calls it.
        letter: where it comes.
        what: the question, in one line that begins with a small letter.
        measure: does the work.
        draw: figures of what was found, as PNGs in a directory; returns where they are. Sees the
            findings alone, so that it can draw again from a file.
    """

    name: str
    letter: str
    what: str
    measure: Callable[[Effort], Findings]
    draw: Callable[[Findings, Path], list[Path]] | None = None


def discover() -> dict[str, Family]:
    """Every ``FAMILY`` in `benchmarks.families`, by name, in the order of their letters.

    Raises:
        ValueError: two have one letter, or one name.
    """
    package = importlib.import_module("benchmarks.families")
    found = (
        getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "FAMILY", None)
        for module in pkgutil.iter_modules(package.__path__)
    )
    families = sorted((f for f in found if f is not None), key=lambda family: family.letter)
    for what in ("letter", "name"):
        for taken, times in Counter(getattr(each, what) for each in families).items():
            if times > 1:
                raise ValueError(
                    f"{times} families of benchmarks have the {what} {taken!r}; each needs its own"
                )
    return {family.name: family for family in families}
