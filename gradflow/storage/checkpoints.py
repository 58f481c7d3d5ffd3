"""When the state of a run under way is kept, and what a run goes on from."""

from __future__ import annotations

import hashlib
import json
import time as clock
import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from pydantic import Field

from .._devices import anywhere
from .._packing import packed
from .._spec import Spec
from ..save_times import SaveTimes
from .files import StorageError
from .state import StateFiles
from .trees import Tree

_FORMAT = 1
_MOST_SHARE = 0.02  # of the time that checkpoints may take, but where times are asked for


class CheckpointWarning(UserWarning):
    """A checkpoint could not be used or not be written; the run goes on without it.

    >>> import gradflow as gf
    >>> import warnings
    >>> warnings.simplefilter("error", gf.CheckpointWarning)  # for who would rather have it end
    """


class OtherRunError(StorageError):
    """The checkpoints are of a run that was told something else.

    Attributes:
        keys: what differs, in order.
    """

    def __init__(self, message: str, keys: tuple[str, ...]):
        self.keys = keys
        super().__init__(message)


class Checkpoint(Spec):
    """When the state of a run is kept, so that it can go on after it was cut off.

    Attributes:
        wall_seconds: after this much time, and at the next moment at which a run can be cut; more
            seldom where all of them together would take more than 2 % of the time. null for never.
        save: at these simulated times too, whatever it costs.
        keep: states that are left; where the latest cannot be read the one before is taken.
    """

    wall_seconds: Annotated[float, Field(gt=0)] | None = 30.0
    save: SaveTimes | None = None
    keep: Annotated[int, Field(ge=1)] = 2

    def build(self, directory: Path) -> Checkpoints:
        """The checkpoints of a run in a directory."""
        return Checkpoints(
            directory, **{name: getattr(self, name) for name in self.__class__.model_fields}
        )


class Checkpoints:
    """The states of one run in a directory, from the last of which it goes on.

    Nothing of the run depends on when it was cut: the steps that it takes, and every bit of what
    it records, are those of a run that was not.

    Args:
        directory: made when the first state is written.
        wall_seconds, save, keep: as in `Checkpoint`.

    Attributes:
        number: of the last state; 0 while there is none.

    Raises:
        ValueError: an argument is out of range.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> kept = gf.Checkpoints("runs/bowl/checkpoints", save=gf.Linear(count=3))
    >>> half = gf.solve(problem, t1=2.0, checkpoints=kept, cancelled=lambda: True)
    >>> flow = gf.solve(problem, t1=2.0, checkpoints=kept)  # goes on where that was cut
    >>> half.result, flow.result, bool((flow["loss"] == gf.solve(problem, t1=2.0)["loss"]).all())
    ('cancelled', 'end_time', True)
    """

    def __init__(
        self,
        directory: str | PathLike[str],
        *,
        wall_seconds: float | None = 30.0,
        save: SaveTimes | None = None,
        keep: int = 2,
    ):
        self.spec = Checkpoint(wall_seconds=wall_seconds, save=save, keep=keep)
        self.directory = Path(directory)
        self._files = StateFiles(self.directory)
        self._identity: dict[str, Any] = {}
        self.number, self._closed = 0, False
        self._last, self._cost = clock.perf_counter(), 0.0

    @classmethod
    def of(cls, given: Checkpoints | str | PathLike[str] | None) -> Checkpoints | None:
        """What `solve` was given; a path is the directory."""
        return given if given is None or isinstance(given, Checkpoints) else cls(given)

    def child(self, name: str) -> Checkpoints:
        """Those of a part that runs by itself, as often."""
        return self.spec.build(self.directory / name)

    def times(self, t1: float, after: float = -np.inf) -> list[float]:
        """The simulated times at which a state is asked for."""
        if self.spec.save is None:
            return []
        return [time for time in self.spec.save.build(t1).tolist() if time > after]

    def begin(self, identity: Mapping[str, Any]) -> dict[str, Tree] | None:
        """The latest state that can be read; ``None`` if there is none.

        Args:
            identity: what the run was told, of JSON types, by key: it must be the same.

        Raises:
            OtherRunError: it is not.

        Warns:
            CheckpointWarning: there are states that cannot be read.
        """
        # As a file gives it back.
        self._identity, self._closed = json.loads(json.dumps(dict(identity))), False
        found = self._latest(warn=True)
        if found is None:
            self._files.forget_after(-1)
            return None
        self.number, content = found
        self._refuse_others(content["identity"])
        self._files.forget_after(self.number)
        return content

    def go_on(
        self, identity: Mapping[str, Any], restore: Callable[[dict[str, Tree]], None]
    ) -> None:
        """Have a run go on from the latest state that can be read, if there is one.

        Args:
            identity: as in `begin`.
            restore: takes the state; what it raises says that the state does not fit.

        Raises:
            OtherRunError: the state is that of another run.

        Warns:
            CheckpointWarning: there are states that cannot be read.
        """
        state = self.begin(identity)
        if state is None:
            return
        try:
            restore(state)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise OtherRunError(
                f"{self.directory} has checkpoints that do not fit, such as another version of "
                f"gradflow may have left: {error}; allowed: another directory",
                (),
            ) from error

    def latest(self) -> dict[str, Tree] | None:
        """The latest state that can be read, of whatever run; ``None`` if there is none."""
        found = self._latest(warn=False)
        return None if found is None else found[1]

    def _latest(self, warn: bool) -> tuple[int, dict[str, Any]] | None:
        numbers = self._files.numbers
        for number in reversed(numbers):
            try:
                content = self._files.read(number)
                if not isinstance(content, dict) or content.get("format") != _FORMAT:
                    raise StorageError(f"{self._files.path(number)} is of another version")
                return number, content
            except StorageError as error:
                then = "going back to the one before it"
                if number == numbers[0]:
                    then = "no other is left, so the run begins anew"
                if warn:
                    warnings.warn(f"{error}; {then}", CheckpointWarning, stacklevel=4)
        return None

    def _refuse_others(self, stored: dict[str, Any]) -> None:
        here = self._identity
        keys = [key for key in {**stored, **here} if stored.get(key) != here.get(key)]
        if keys:
            told = ", ".join(f"{key} was {stored.get(key)} and is {here.get(key)}" for key in keys)
            raise OtherRunError(
                f"{self.directory} has checkpoints of another run: {told}; allowed: the same, or "
                "another directory",
                tuple(keys),
            )

    def keep(
        self, state: Callable[[], dict[str, Tree]], now: bool = False, last: bool = False
    ) -> None:
        """Write a state, if it is time.

        Args:
            state: makes it.
            now: whether it is time in any case.
            last: that too, and nothing more is kept: the run is being ended from outside, and
                what becomes of it after that is not what it goes on from.

        Warns:
            CheckpointWarning: it cannot be written; those before it are left.
        """
        if self._closed or not (now or last or self._due()):
            return
        self._closed = last
        began = clock.perf_counter()
        try:
            content = {**state(), "format": _FORMAT, "identity": self._identity}
            self._files.write(self.number + 1, content)
            self.number += 1
            self._files.prune(self.spec.keep)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            warnings.warn(
                f"cannot write the checkpoint {error.filename}: {reason}; the run goes on, and "
                "the checkpoint before it is left",
                CheckpointWarning,
                stacklevel=2,
            )
        self._last = clock.perf_counter()
        self._cost = self._last - began

    def _due(self) -> bool:
        every = self.spec.wall_seconds
        passed = clock.perf_counter() - self._last
        return every is not None and anywhere(passed >= max(every, self._cost / _MOST_SHARE))

    def clear(self) -> None:
        """Remove all states, those of parts too: the run is whole, and kept elsewhere."""
        for part in self.directory.glob("*/"):
            self.child(part.name).clear()
        self._files.clear()


def digest(*trees: PyTree) -> str:
    """A fingerprint of the arrays in pytrees and of their places."""
    found = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(trees, eqx.is_array_like)):
        (array,) = packed(jnp.asarray(leaf))
        found.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
