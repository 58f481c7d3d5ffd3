"""The sweeps of a configuration as dimensions: what is varied, and over which values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, JsonValue, ValidationError, model_validator

from .._faults import Translator, nearest
from .._spec import Spec
from .._sweeps import Path, sweeps
from .._yaml import Fault, Node, quote, shorten, show_path
from ..manifest import FREE

# What the record of a sweep calls its own; a swept key of that name is called by its whole path.
RESERVED = {"time", "learning_rate", "loss", "result", "error"}
_DIGITS = 12  # to which the values of a range are rounded: 0.001 and not 0.0010000000000000002

# In strict mode a list would be refused, and a tuple is what a YAML file cannot say.
_Positive = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(ge=2, le=100_000)]
_Log = Annotated[tuple[_Positive, _Positive, _Count], Field(strict=False)]
_Linear = Annotated[tuple[float, float, _Count], Field(strict=False)]
_Range = Annotated[tuple[int, int], Field(strict=False)]


class Range(Spec):
    """Values by their ends, in exactly one way.

    Attributes:
        log: first, last and how many, in constant ratio.
        linear: first, last and how many, evenly spaced.
        range: whole numbers, from the first on and below the second.

    >>> import gradflow as gf
    >>> gf.sweep.Range(log=(1e-3, 1e-1, 3)).values
    [0.001, 0.01, 0.1]
    >>> gf.sweep.Range(range=(0, 4)).values
    [0, 1, 2, 3]
    """

    log: _Log | None = None
    linear: _Linear | None = None
    range: _Range | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Range:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            told = " and ".join(given) or "neither"
            raise ValueError(f"got {told}; allowed: exactly one of log, linear, range")
        if self.range is not None and self.range[1] <= self.range[0]:
            raise ValueError(f"no whole number from {self.range[0]} on is below {self.range[1]}")
        if len(set(self.values)) < len(self.values):
            raise ValueError("some of the values are the same; allowed: each once")
        return self

    @cached_property
    def values(self) -> list[int] | list[float]:
        """The values; whole numbers where all are whole."""
        if self.range is not None:
            return list(range(*self.range))
        # Exactly one of the three is there.
        first, last, count = self.log or self.linear or (0.0, 0.0, 0)
        spaced = np.geomspace if self.log else np.linspace
        found = [float(f"{value:.{_DIGITS}g}") for value in spaced(first, last, count)]
        return [int(v) for v in found] if all(v.is_integer() for v in found) else found


class Sweep(Spec):
    """Several values in the place of one.

    Attributes:
        sweep: the values.
        zip: sweeps that share this name go together, value by value.
    """

    sweep: Annotated[list[JsonValue], Field(min_length=1)] | Range
    zip: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z_0-9]*$")] | None = None


class Axis(NamedTuple):
    """One swept key.

    Attributes:
        name: what the results call it.
        path: of the key.
        values: in its place, each where it stands in the file.

    >>> import gradflow as gf
    >>> from pathlib import Path
    >>> lines = "problem: {kind: digits}", "flow: {t1: 1, rtol: {sweep: [1e-3, 1e-4]}}"
    >>> characters = Path("digits.yaml").write_text("\\n".join(lines))
    >>> (dim,) = gf.sweep.plan("digits.yaml").dimensions
    >>> dim.axes[0].path, dim.axes[0].labels
    (('flow', 'rtol'), array([0.001 , 0.0001]))
    """

    name: str
    path: Path
    values: tuple[Node, ...]

    @property
    def labels(self) -> np.ndarray:
        """The values as coordinates: numbers, or text where they are not all numbers."""
        plain: list[Any] = [node.plain() for node in self.values]
        # A list of one number is as good as that, e.g. of one learning rate.
        single = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in plain]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in single):
            return np.array(single)
        kinds = [v.get("kind") if isinstance(v, dict) else v for v in plain]
        if all(isinstance(k, str) for k in kinds) and len(set(kinds)) == len(kinds):
            return np.array(kinds)
        return np.array([v if isinstance(v, str) else json.dumps(v) for v in plain])


class Dimension(NamedTuple):
    """Keys that change together: one, or several that are zipped.

    Attributes:
        name: of the axis of the results.
        axes: the keys.

    >>> import gradflow as gf
    >>> from pathlib import Path
    >>> lines = "problem: {kind: digits}", "flow: {t1: 1, rtol: {sweep: [1e-3, 1e-4]}}"
    >>> characters = Path("digits.yaml").write_text("\\n".join(lines))
    >>> (dim,) = gf.sweep.plan("digits.yaml").dimensions
    >>> dim.name, len(dim)
    ('rtol', 2)
    """

    name: str
    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        return len(self.axes[0].values)

    @property
    def labels(self) -> np.ndarray:
        """Along the axis: the values of the one key, or of that which gives it its name."""
        own = [axis for axis in self.axes if axis.name == self.name]
        return own[0].labels if own else np.arange(len(self))

    def __str__(self) -> str:
        shown = shorten(", ".join(f"{label}" for label in self.labels))
        keys = ", ".join(show_path(axis.path) for axis in self.axes)
        return f"{self.name}: {len(self)} values of {keys}: {shown}"


def dimensions(root: Node) -> tuple[tuple[Dimension, ...], list[Fault]]:
    """The dimensions of all sweeps below `root`, in the order of the file, and what is wrong."""
    found: dict[Path, tuple[Node, Sweep]] = {}
    faults: list[Fault] = []
    translator = Translator(Sweep.model_json_schema())
    for path, node in sweeps(root):
        told = _misplaced(path, node)
        if not told:
            try:
                found[path] = node, Sweep.model_validate_json(json.dumps(node.plain()))
            except ValidationError as error:
                told = [
                    replace(fault, path=".".join(filter(None, (show_path(path), fault.path))))
                    for fault in translator.faults(node, error)
                ]
        faults += told
    if faults:
        return (), faults
    names = _names(list(found))
    groups: dict[str, list[Path]] = {}
    for path, (_, spec) in found.items():
        # What is not zipped is alone; no zip has a name with a dot.
        groups.setdefault(spec.zip or f".{names[path]}", []).append(path)
    faults = _zip_faults(found, groups, names)
    if faults:
        return (), faults
    made = (
        Dimension(
            group.removeprefix("."),
            tuple(Axis(names[path], path, _values(*found[path])) for path in paths),
        )
        for group, paths in groups.items()
    )
    return tuple(made), []


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """The last key where that says it, the whole path elsewhere."""
    last = Counter(path[-1] for path in paths)
    plain = {path for path in paths if last[path[-1]] == 1 and path[-1] not in RESERVED}
    return {
        path: path[-1] if path in plain and path[-1].isidentifier() else ".".join(path)
        for path in paths
    }


def _misplaced(path: Path, node: Node) -> list[Fault]:
    if path[0] not in FREE:
        return []
    message = "the numbers of a run do not depend on it; allowed: one value"
    return [Fault(*node.where, show_path(path), message)]


def _values(node: Node, spec: Sweep) -> tuple[Node, ...]:
    below = node.content["sweep"] if isinstance(node.content, dict) else node
    if isinstance(below.content, list):
        return tuple(below.content)
    assert isinstance(spec.sweep, Range)
    mark = below.where
    return tuple(Node(mark, mark, value, f"{value:.15g}") for value in spec.sweep.values)


def _zip_faults(
    found: dict[Path, tuple[Node, Sweep]], groups: dict[str, list[Path]], names: dict[Path, str]
) -> list[Fault]:
    """What is wrong with the names of zips, and with what they join."""
    faults: list[Fault] = []
    zips = [group for group in groups if not group.startswith(".")]
    for group in zips:
        paths = groups[group]
        node, _ = found[paths[0]]
        first = len(_values(*found[paths[0]]))
        if len(paths) == 1:
            near = nearest(group, [other for other in zips if other != group])
            message = f"nothing else is zipped as {quote(group)}; {near}allowed: the zip of another"
            faults.append(_of_zip(node, paths[0], f"{message} sweep, or none"))
        taken = RESERVED | {name for path, name in names.items() if path not in paths}
        # A dimension is read by its values, so that those of which it has the name differ.
        for path in paths:
            texts = [json.dumps(value.plain()) for value in _values(*found[path])]
            taken |= {names[path]} if len({*texts}) < len(texts) else set()
        if group in taken:
            message = f"the name {quote(group)} is taken; allowed: another"
            faults.append(_of_zip(node, paths[0], message))
        for path in paths[1:]:
            count = len(_values(*found[path]))
            if count != first:
                message = (
                    f"{count} values, and {show_path(paths[0])}, with which it is zipped, has "
                    f"{first}; allowed: as many"
                )
                faults.append(Fault(*found[path][0].where, show_path(path), message))
    return faults


def _of_zip(node: Node, path: Path, message: str) -> Fault:
    at = node.content["zip"] if isinstance(node.content, dict) else node
    return Fault(*at.where, show_path((*path, "zip")), message)
