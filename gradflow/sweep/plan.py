"""What a sweep consists of: its dimensions, and the configuration of every point."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from .. import _sweeps
from .._yaml import Fault, Node, read, shorten, show_path, write
from ..config import Config, ConfigError, Reader
from ..manifest import FREE
from ..tasks import Python
from .dimensions import Dimension, dimensions

_MOST = 100_000  # points


class Point(NamedTuple):
    """One run of a sweep.

    Attributes:
        index: its place along every dimension.
        config: what is run.
        key: of all that its numbers depend on; the name of its directory.

    >>> import gradflow as gf
    >>> from pathlib import Path
    >>> lines = "problem: {kind: digits}", "flow: {t1: 1}", "seed: {sweep: [5, 7]}"
    >>> characters = Path("seeds.yaml").write_text("\\n".join(lines))
    >>> point = gf.sweep.plan("seeds.yaml").points[1]
    >>> point.index, point.config.seed, len(point.key)
    ((1,), 7, 16)
    """

    index: tuple[int, ...]
    config: Config
    key: str


@dataclass(frozen=True)
class Plan:
    """All that a sweep runs.

    Attributes:
        dimensions: what is varied, in the order of the file; the grid of them all is run.
        points: the runs, the last dimension fastest.
        given: the configuration as it was written, with its sweeps and the overrides.

    >>> import gradflow as gf
    >>> from pathlib import Path
    >>> lines = "problem: {kind: cooccurrence}", "flow: {t1: 1, rtol: {sweep: [1e-3, 1e-4]}}"
    >>> characters = Path("both.yaml").write_text("\\n".join(lines))
    >>> plan = gf.sweep.plan("both.yaml", ["seed={sweep: {range: [0, 3]}}"])
    >>> print(plan)
    6 points
    rtol: 2 values of flow.rtol: 0.001, 0.0001
    seed: 3 values of seed: 0, 1, 2
    >>> plan.points[-1].index, plan.points[-1].config.seed, plan.points[-1].config.flow.rtol
    ((1, 2), 2, 0.0001)
    """

    dimensions: tuple[Dimension, ...]
    points: tuple[Point, ...]
    given: Mapping[str, Any]

    def __str__(self) -> str:
        return "\n".join([f"{len(self.points)} points", *map(str, self.dimensions)])

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values there are along every dimension."""
        return tuple(map(len, self.dimensions))

    @property
    def source(self) -> Path | None:
        """The file of a user's own problem, where it is the same in all points."""
        sources = {point.config.problem.source for point in self.points}
        return sources.pop() if len(sources) == 1 else None

    def dump(self) -> str:
        """The configuration as YAML that means the same in a directory of its own.

        A user's own problem is looked for in the copy of its file that is kept there.
        """
        given = dict(self.given)
        problem = self.points[0].config.problem
        if self.source is not None and isinstance(problem, Python):
            inner = dict(given["problem"])
            if isinstance(inner.get("target"), str):
                given["problem"] = inner | {"target": problem.kept}
        return write(given)


def is_sweep(path: str | PathLike[str], overrides: Sequence[str] = ()) -> bool:
    """Whether the YAML file has a sweep in it, be it right or wrong.

    >>> import gradflow as gf
    >>> from pathlib import Path
    >>> characters = Path("one.yaml").write_text("problem: {kind: digits}")
    >>> gf.sweep.is_sweep("one.yaml"), gf.sweep.is_sweep("one.yaml", ["seed={sweep: [1, 2]}"])
    (False, True)
    """
    root, _ = read(path, overrides)
    return root is not None and any(_sweeps.sweeps(root))


def plan(path: str | PathLike[str], overrides: Sequence[str] = ()) -> Plan:
    """The sweep that the YAML file `path` describes, changed by ``key.path=value`` overrides.

    Raises:
        ConfigError: with everything that is wrong, of any point; a fault in a swept value is told
            where that stands.

    >>> import gradflow as gf
    >>> from pathlib import Path
    >>> lines = "problem: {kind: cooccurrence, width: {sweep: [8, wide]}}", "flow: {t1: 1}"
    >>> characters = Path("wide.yaml").write_text("\\n".join(lines))
    >>> gf.sweep.plan("wide.yaml")
    Traceback (most recent call last):
    gradflow.config.ConfigError: wide.yaml:1:50: problem.width: got the text 'wide'; allowed: ...
    """
    root, faults = read(path, overrides)
    if root is None:
        raise ConfigError(faults)
    dims, wrong = dimensions(root)
    faults += wrong
    if not wrong and not dims:
        message = "no sweep in it; allowed: key: {sweep: [...]} in place of a value"
        faults.append(Fault(str(path), 1, 1, "", message))
    if (count := math.prod(map(len, dims))) > _MOST:
        message = f"the sweeps make {count} points; allowed: {_MOST}"
        faults.append(Fault(str(path), 1, 1, "", message))
    if faults:
        raise ConfigError(faults)
    reader = Reader(Config, path)
    points: dict[str, Point] = {}
    for index in product(*(range(len(dim)) for dim in dims)):
        values = {
            axis.path: axis.values[i]
            for dim, i in zip(dims, index, strict=True)
            for axis in dim.axes
        }
        config, wrong = reader.read(node := _replaced(root, values))
        faults += wrong
        if config is not None and config.scaling is not None:
            message = "a study is a sweep of its own; allowed: null"
            faults.append(_at(node, "scaling", message))
        elif config is not None and config.mesh is not None and config.mesh.distributed:
            message = "every point is run by one process; allowed: false"
            faults.append(_at(node, "mesh.distributed", message))
        elif config is not None:
            point = Point(index, config, key_of(config))
            if (same := points.setdefault(point.key, point)) is not point:
                faults.append(_repeated(dims, index, same.index))
    if faults:
        raise ConfigError(faults)
    given = root.plain()
    assert isinstance(given, dict)
    return Plan(dims, tuple(points.values()), given)


def _at(node: Node, key: str, message: str) -> Fault:
    """What is wrong with the value of ``key.path``, where it stands."""
    for part in key.split("."):
        assert isinstance(node.content, dict)
        node = node.content[part]
    return Fault(*node.where, key, message)


def _repeated(dims: Sequence[Dimension], index: Sequence[int], same: Sequence[int]) -> Fault:
    """That a point is the run of another one."""
    dim, i, j = next(
        found for found in zip(dims, index, same, strict=True) if len({*found[1:]}) > 1
    )
    axis = dim.axes[0]
    value, other = (shorten(json.dumps(axis.values[k].plain())) for k in (i, j))
    message = f"{value} makes the same run as {other} before it; allowed: each once"
    return Fault(*axis.values[i].where, show_path(axis.path), message)


def _replaced(node: Node, values: Mapping[_sweeps.Path, Node]) -> Node:
    """The tree with other values at some paths; what is not on the way there is shared."""
    if () in values:
        return values[()]
    below: dict[str, dict[_sweeps.Path, Node]] = {}
    for (first, *rest), value in values.items():
        below.setdefault(first, {})[tuple(rest)] = value
    if isinstance(node.content, dict):
        changed = {key: _replaced(node.content[key], inner) for key, inner in below.items()}
        return replace(node, content=node.content | changed)
    assert isinstance(node.content, list)
    items = list(node.content)
    for key, inner in below.items():
        items[int(key)] = _replaced(items[int(key)], inner)
    return replace(node, content=items)


def key_of(config: Config) -> str:
    """What two configurations have in common that give the same numbers, 16 hexadecimal digits.

    A file of the user's counts by what is in it, wherever it lies.

    >>> import gradflow as gf
    >>> from gradflow.config import Config
    >>> config = Config(problem={"kind": "digits"}, flow={"t1": 1.0})
    >>> gf.sweep.key_of(config) == gf.sweep.key_of(config.model_copy(update={"figures": False}))
    True
    >>> gf.sweep.key_of(config) == gf.sweep.key_of(config.model_copy(update={"seed": 1}))
    False
    """
    content = config.model_dump(mode="json", exclude=set(FREE))
    if isinstance(config.problem, Python) and config.problem.source is not None:
        content["problem"]["target"] = config.problem.kept
        content["source"] = _digest(config.problem.source)
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digest(source: Path) -> str:
    try:
        return hashlib.sha256(source.read_bytes()).hexdigest()
    except OSError:  # what is wrong with it is told when it is run
        return ""
