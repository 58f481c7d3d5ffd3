"""A user's own problem as a task."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import jax
from jaxtyping import Array
from pydantic import Field, JsonValue, ValidationInfo, field_validator

from ...plotting import ENERGY, LOSS, Figure, automatic
from ...problem import Problem
from ...storage import SOURCE
from ...trajectory import Trajectory
from ..task import Task
from .target import Target, is_file

_TARGET = re.compile(r"(?P<home>.+):(?P<name>[A-Za-z_]\w*)")
FOLDER = "folder"  # of a validation's context: where a relative file is looked for


class Python(Task):
    """A problem from a Python file, or from a module that is installed.

    The function that `target` names returns a `gradflow.Problem`. Of its arguments, ``key`` is
    the run's own, and so is ``data_key`` where it has one, which is another; the rest comes from
    `args`. What the problem's observables recorded is drawn without being asked for.

    Attributes:
        target: FILE.py:NAME, the file seen from where the configuration lies, or MODULE:NAME; a
            function that returns a Problem, or a Problem.
        args: the function's arguments by name.

    >>> import gradflow as gf
    >>> import jax
    >>> from pathlib import Path
    >>> lines = "import gradflow, optax", "make = lambda w: gradflow.Problem(optax.l2_loss, w, 0.0)"
    >>> characters = Path("mine.py").write_text("; ".join(lines))
    >>> task = gf.tasks.Python(target="mine.py:make", args={"w": 3.0})
    >>> float(task.build(jax.random.key(0)).params)
    3.0
    """

    title: ClassVar = "your own problem"
    figures: ClassVar = (LOSS, ENERGY)

    kind: Literal["python"] = "python"
    target: str
    args: dict[str, JsonValue] = Field(default={})

    @field_validator("target")
    @classmethod
    def _is_a_place(cls, target: str, info: ValidationInfo) -> str:
        match = _TARGET.fullmatch(target)
        if match is None or "\0" in target:
            raise ValueError(
                f"got the text {target!r}; allowed: FILE.py:NAME, such as my_problem.py:make, or "
                "MODULE:NAME"
            )
        home, name = match.groups()
        if not is_file(home):
            return target
        folder = Path((info.context or {}).get(FOLDER, "."))
        return f"{(folder / Path(home).expanduser()).resolve()}:{name}"

    @property
    def source(self) -> Path | None:
        """The file; ``None`` for a module."""
        home = self._place[0]
        return Path(home) if is_file(home) else None

    @property
    def kept(self) -> str:
        """The target in the copy of the file that a run keeps, seen from there."""
        return f"{SOURCE}:{self._place[1]}"

    @property
    def _place(self) -> tuple[str, str]:
        home, _, name = self.target.rpartition(":")
        return home, name

    @cached_property
    def _made(self) -> Target:
        return Target(*self._place)

    def takes(self, name: str) -> bool:
        """Whether the function has an argument of that name, e.g. ``data_key``.

        Raises:
            TargetError, UsersError: as `build`.
        """
        return self._made.takes(name)

    def build(self, key: Array, data_key: Array | None = None) -> Problem:
        """The problem, for the keys of one run.

        Raises:
            TargetError: the target or its arguments cannot be what was meant.
            UsersError: the user's own code raised an error; told with its line.
        """
        # Both keys are the same unless they were given apart, and draws from them must not be.
        data_key = jax.random.fold_in(key if data_key is None else data_key, 1)
        return self._made({"key": key, "data_key": data_key}, self.args)

    def drawn(self, trajectory: Trajectory) -> tuple[Figure, ...]:
        """The common figures, and one of every quantity that is the problem's own."""
        return (*self.figures, *automatic(trajectory))
