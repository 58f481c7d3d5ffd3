"""Trees of dictionaries and lists in one file, NumPy arrays and trajectories among the leaves."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..trajectory import Trajectory, Variable
from .files import StorageError, write

# Leaves are what JSON knows, NumPy arrays and scalars, and trajectories.
Tree = Any
Place = tuple[str, ...]

_TREE, _ARRAY, _TRAJECTORY = "tree", "__array__", "__trajectory__"
# What a trajectory holds beside its variables and coordinates.
REST = ("final_time", "result", "stats", "crossings", "event_values", "attrs")


def write_tree(path: Path, tree: Tree) -> None:
    """A tree as one file whose parts have check sums; tuples become lists.

    Raises:
        OSError: the file cannot be written.
    """
    arrays: list[np.ndarray] = []

    def leaf(value: Any, _: Place) -> Any:
        if isinstance(value, Trajectory):
            parts = {
                "variables": [
                    [name, v.values, v.dims, v.label, v.units]
                    for name, v in value.variables.items()
                ],
                "coords": value.coords,
                "rest": rest(value),
            }
            return {_TRAJECTORY: mapped(parts, leaf)}
        if isinstance(value, np.ndarray):
            arrays.append(value)
            return {_ARRAY: len(arrays) - 1}
        return value.item() if isinstance(value, np.generic) else value

    named = {_TREE: np.array(json.dumps(mapped(tree, leaf)))}
    named |= {str(i): array for i, array in enumerate(arrays)}
    content = io.BytesIO()
    np.savez(content, **named)  # pyright: ignore[reportArgumentType]
    write(path, content.getvalue())


def read_tree(path: Path) -> Tree:
    """The tree that `write_tree` wrote.

    Raises:
        StorageError: the file is missing or damaged.
    """
    try:
        # Opened here, for NumPy does not close what it cannot read.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        tree = json.loads(arrays.pop(_TREE).item())
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist") from None
    except Exception as error:  # damage makes NumPy and zipfile raise almost anything
        raise StorageError(f"{path} is damaged: {' '.join(str(error).split())}") from None

    def unmarked(value: dict[str, Any], _: Place) -> Any:
        if _ARRAY in value:
            return arrays[str(value[_ARRAY])]
        parts = replaced(value[_TRAJECTORY], (_ARRAY,), unmarked)
        variables = {
            name: Variable(values, tuple(dims), label, units)
            for name, values, dims, label, units in parts["variables"]
        }
        return Trajectory(variables, parts["coords"], **with_arrays(parts["rest"]))

    try:
        return replaced(tree, (_ARRAY, _TRAJECTORY), unmarked)
    except KeyError as error:
        raise StorageError(f"{path} is damaged: it has no array {error}") from None


def mapped(
    tree: Tree,
    leaf: Callable[[Any, Place], Any],
    is_leaf: Callable[[Any], bool] = lambda _: False,
    place: Place = (),
) -> Tree:
    """The tree with other leaves; what `is_leaf` says of is one, though it has parts."""
    if is_leaf(tree):
        return leaf(tree, place)
    if isinstance(tree, dict):
        return {key: mapped(value, leaf, is_leaf, (*place, key)) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [mapped(value, leaf, is_leaf, (*place, str(i))) for i, value in enumerate(tree)]
    return leaf(tree, place)


def replaced(tree: Tree, marks: tuple[str, ...], value: Callable[[dict, Place], Any]) -> Tree:
    """The tree with the dictionaries that have one of the `marks` replaced."""

    def is_marked(part: Any) -> bool:
        return isinstance(part, dict) and any(mark in part for mark in marks)

    return mapped(tree, lambda p, place: value(p, place) if is_marked(p) else p, is_marked)


def rest(trajectory: Trajectory) -> dict[str, Any]:
    """All that a trajectory holds beside its variables and coordinates, as JSON has it."""
    found = {name: getattr(trajectory, name) for name in REST}
    return found | {"crossings": {k: rows.tolist() for k, rows in found["crossings"].items()}}


def with_arrays(rest: dict[str, Any]) -> dict[str, Any]:
    """The rest of a trajectory, as a trajectory has it."""
    crossings = {
        name: np.asarray(rows, dtype=float).reshape(-1, 2)
        for name, rows in rest["crossings"].items()
    }
    return rest | {"crossings": crossings}


def check_sum(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        StorageError: the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist") from None
    except OSError as error:
        raise StorageError(f"{path} is damaged: {error.strerror or error}") from None
