"""The state of what is under way, in files.

A state is a tree, see `gradflow.storage.trees`, in a file of its own, ``NNNNNN.npz``. Two things in
it only grow. Of these a file that is never touched again has what is new since the state before, so
that what it costs to keep a state does not grow with what is there already:

- a `Trajectory`, the record of a run under way: its new rows are a netCDF file,
  ``NNNNNN-<what has the record>.nc``;
- `Finished`, trees by name that change no more: ``NNNNNN-<where they are>.npz``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..trajectory import Trajectory, Variable
from .files import StorageError
from .trajectories import read_trajectory, write_trajectory
from .trees import (
    Place,
    Tree,
    check_sum,
    mapped,
    read_tree,
    replaced,
    rest,
    with_arrays,
    write_tree,
)

_SUFFIX = ".npz"
_RECORD, _FINISHED = "__record__", "__finished__"


class Finished(dict[str, Tree]):
    """Trees by name, none of which changes any more."""


@dataclass
class Grown:
    """How far something that grows was written.

    Attributes:
        files: of it, in order, with their check sums.
        sizes: of a record its rows by time axis; of what is finished 1 by name.
    """

    files: dict[str, str]
    sizes: dict[str, int]

    def and_file(self, path: Path, sizes: dict[str, int]) -> Grown:
        """The same with one file more."""
        return Grown({**self.files, path.name: check_sum(path)}, sizes)

    def paths(self, folder: Path) -> list[Path]:
        """The files, in order.

        Raises:
            StorageError: one is missing or damaged.
        """
        paths = [folder / name for name in self.files]
        for path in paths:
            if check_sum(path) != self.files[path.name]:
                raise StorageError(f"{path} is damaged: its check sum is another")
        return paths


class StateFiles:
    """Numbered states in a folder.

    Args:
        folder: made when the first is written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._grown: dict[str, Grown] = {}

    @property
    def numbers(self) -> list[int]:
        """Those of the states that are there, ascending; damaged ones too."""
        stems = (path.stem for path in self.folder.glob(f"*{_SUFFIX}"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def path(self, number: int) -> Path:
        """The file of a state."""
        return self.folder / f"{number:06d}{_SUFFIX}"

    def write(self, number: int, state: Tree) -> None:
        """Write a state.

        Raises:
            OSError: it cannot be written; those before it are as they were.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        grown = dict(self._grown)

        def grow(value: Any, place: Place) -> Any:
            if isinstance(value, Trajectory):
                name = ".".join(place[:-1])
                path = self.folder / f"{number:06d}-{name}.nc"
                grown[name] = _write_rows(path, value, grown.get(name, Grown({}, {})))
                return {_RECORD: name, "grown": vars(grown[name]), "rest": rest(value)}
            if isinstance(value, Finished):
                name = ".".join(place)
                path = self.folder / f"{number:06d}-{name}{_SUFFIX}"
                grown[name] = _write_finished(path, value, grown.get(name, Grown({}, {})))
                return {_FINISHED: name, "grown": vars(grown[name])}
            return value

        grows = lambda value: isinstance(value, Trajectory | Finished)  # noqa: E731
        write_tree(self.path(number), mapped(state, grow, grows))
        self._grown = grown

    def read(self, number: int) -> Tree:
        """A state; further ones are written as its continuation.

        Raises:
            StorageError: one of its files is missing or damaged.
        """
        grown: dict[str, Grown] = {}

        def whole(value: dict[str, Any], _: Place) -> Any:
            name = value.get(_RECORD) or value[_FINISHED]
            grown[name] = Grown(**value["grown"])
            paths = grown[name].paths(self.folder)
            if _RECORD in value:
                return _joined(list(map(read_trajectory, paths)), value, grown[name])
            return Finished({k: tree for path in paths for k, tree in read_tree(path).items()})

        state = replaced(read_tree(self.path(number)), (_RECORD, _FINISHED), whole)
        self._grown = grown
        return state

    def prune(self, keep: int) -> None:
        """Remove all states but the last `keep`."""
        for number in self.numbers[:-keep]:
            self.path(number).unlink(missing_ok=True)

    def forget_after(self, number: int) -> None:
        """Remove what comes after a state: damaged ones, and rows of one that was never whole."""
        for path in self.folder.glob("*"):
            digits = re.match(r"(\d{6,})[-.]", path.name)
            if digits and int(digits[1]) > number:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the folder and all that is in it of ours."""
        self.forget_after(-1)
        self._grown = {}
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _write_rows(path: Path, record: Trajectory, before: Grown) -> Grown:
    """The rows of a record that are new."""
    axes = {v.dims[0] for v in record.variables.values()}
    sizes = {axis: len(record.coords[axis]) for axis in sorted(axes)}
    if before.files and sizes == before.sizes:
        return before
    known = {axis: before.sizes.get(axis, 0) for axis in sizes}
    new = replace(
        record,
        variables={
            name: replace(v, values=v.values[known[v.dims[0]] :])
            for name, v in record.variables.items()
        },
        coords={name: values[known.get(name, 0) :] for name, values in record.coords.items()},
    )
    write_trajectory(path, new)
    return before.and_file(path, sizes)


def _write_finished(path: Path, finished: Finished, before: Grown) -> Grown:
    """The trees that are new."""
    new = {name: tree for name, tree in finished.items() if name not in before.sizes}
    if not new:
        return before
    write_tree(path, new)
    return before.and_file(path, dict.fromkeys(finished, 1))


def _joined(parts: list[Trajectory], value: dict[str, Any], grown: Grown) -> Trajectory:
    """A record from those of its rows."""
    first = parts[0]

    def whole(rows: Callable[[Trajectory], np.ndarray]) -> np.ndarray:
        return np.concatenate([rows(part) for part in parts])

    return Trajectory(
        variables={
            name: Variable(whole(lambda part, n=name: part[n]), v.dims, v.label, v.units)
            for name, v in first.variables.items()
        },
        coords={
            name: whole(lambda part, n=name: part.coords[n]) if name in grown.sizes else values
            for name, values in first.coords.items()
        },
        **with_arrays(value["rest"]),
    )
