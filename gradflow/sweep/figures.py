"""Figures over the dimensions of a sweep.

A number is drawn against one dimension of numbers, with a line for every value of a second, and
over two dimensions as colour; of further ones each value has a figure of its own. A dimension
called ``seed`` is an ensemble: of it the median is drawn, and the band of eight seeds in ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from ..analysis import band
from ..plotting import Figure, HeatMap, Line, Panel
from ..plotting.figures import Colour, Series
from ..report import Shown
from ..trajectory import SEED, TIME, Trajectory
from .record import RATE

# Of the numbers of a run those that a figure is made of, where they vary.
_HEADLINES = ("final_loss", "gradient_evaluations", "relative_drift", "error_estimate")
_NOT = ("final_time", "accepted", "rejected", "wall_seconds", "compile_seconds", "max_drift")
_NOT += ("descent_loss", "descent_steps", "diverged")
_NAMES = {RATE: r"learning rate $\eta$", "learning_rates": r"learning rate $\eta$"}
_WIDE = 20.0  # values so many times apart ask for a logarithmic axis
_CELLS = 3  # fewer along either axis are seen as well as lines
_LINES = 7  # more of them can no longer be told apart
# Of those that have no order.
_COLOURS: tuple[Colour, ...] = (
    "blue", "vermillion", "green", "purple", "orange", "sky", "black",
)  # fmt: skip
_FIGURES = 24  # of one sweep at most
_LIGHT, _DARK = 0.0, 1.0  # ends of the colours for ordered families


def of_sweep(record: Trajectory) -> list[Shown]:
    """The figures that the record of a sweep has the numbers for.

    >>> import gradflow as gf
    >>> from gradflow.trajectory import Trajectory, Variable
    >>> import numpy as np
    >>> loss = Variable(np.outer([3, 2, 1], [1, 2, 4, 8]), ("rtol", "width"), "loss")
    >>> coords = {"rtol": np.array([1e-3, 1e-4, 1e-5]), "width": np.array([8, 16, 32, 64])}
    >>> record = Trajectory({"final_loss": loss}, coords, 0.0, {}, "end_time")
    >>> [shown.figure.name for shown in gf.sweep.of_sweep(record)]
    ['final_loss-against-width', 'final_loss-over-width-and-rtol']
    """
    figures = [figure for name in _drawn(record) for figure in _of_number(record, name)]
    course = _course(record)
    figures = figures[: _FIGURES - len(course)] + course
    return [Shown(figure, record, {}) for figure in figures]


def _drawn(record: Trajectory) -> list[str]:
    """The numbers that vary, those of interest first."""
    sweep = {dim for dim in record.coords if not dim.startswith(TIME)}
    numbers = [
        name
        for name, variable in record.variables.items()
        if variable.values.dtype.kind in "fiu"
        and set(variable.dims) <= sweep
        and name not in (*_NOT, *record.attrs.get("coordinates", ()))
        and len(np.unique(variable.values[np.isfinite(variable.values)])) > 1
    ]
    first = [name for name in _HEADLINES if name in numbers]
    return first + [name for name in numbers if name not in first]


@dataclass(frozen=True)
class _Cut:
    """A number at one value of all dimensions but seeds and the two that are drawn."""

    record: Trajectory
    name: str
    at: Mapping[str, int]

    def values(self, *dims: str) -> np.ndarray:
        """Over `dims`, and over seeds where there are some."""
        variable = self.record.variables[self.name]
        values = np.asarray(variable.values, float)
        index = tuple(self.at.get(dim, slice(None)) for dim in variable.dims)
        left = [dim for dim in variable.dims if dim not in self.at]
        order = [*dims, *(dim for dim in left if dim == SEED)]
        return np.transpose(values[index], [left.index(dim) for dim in order])


def _of_number(record: Trajectory, name: str) -> Iterator[Figure | HeatMap]:
    variable = record.variables[name]
    free = [dim for dim in variable.dims if dim != SEED and len(record.coords[dim]) > 1]
    numeric = [dim for dim in free if record.coords[dim].dtype.kind in "fiu"]
    if not numeric:
        return
    # Drifts against the learning rate, all else against what has most values.
    along = RATE if RATE in numeric else max(numeric, key=lambda dim: len(record.coords[dim]))
    rest = sorted((dim for dim in free if dim != along), key=lambda dim: -len(record.coords[dim]))
    by, fixed = rest[:1], rest[1:]
    single = {dim: 0 for dim in variable.dims if len(record.coords[dim]) == 1 and dim != SEED}
    for places in product(*(range(len(record.coords[dim])) for dim in fixed)):
        cut = _Cut(record, name, single | dict(zip(fixed, places, strict=True)))
        labels = [(dim, record.coords[dim][i]) for dim, i in zip(fixed, places, strict=True)]
        stem = "".join(f"-{dim}-{_plain(value)}" for dim, value in labels)
        where = ", ".join(f"{_called(dim)} {_plain(value)}" for dim, value in labels)
        if not by or len(record.coords[by[0]]) <= _LINES:
            yield _lines(cut, along, by, f"{name}-against-{along}{stem}", where)
        if by and min(len(record.coords[along]), len(record.coords[by[0]])) >= _CELLS:
            yield _heat(cut, along, by[0], f"{name}-over-{along}-and-{by[0]}{stem}", where)


def _lines(cut: _Cut, along: str, by: list[str], stem: str, where: str) -> Figure:
    record = cut.record
    order = np.argsort(record.coords[along])
    x = record.coords[along][order].astype(float)
    values = cut.values(*by, along)
    families = values if by else values[None]
    labels = record.coords[by[0]] if by else [""]
    lines = []
    for i, label in enumerate(labels):
        colour: Colour | float = _COLOURS[i]
        if by and record.coords[by[0]].dtype.kind in "fiu":
            colour = _LIGHT + (_DARK - _LIGHT) * i / max(1, len(labels) - 1)
        told = f"{_called(by[0])} {_plain(label)}" if by else "_"
        series = _always((x, families[i][order]))
        lines.append(Line(series, label=told, colour=colour, dash="solid"))
        # Where the numbers were measured; the line between them is for the eye.
        middle = families[i][order]
        middle = band(middle).median if middle.ndim == 2 else middle
        lines.append(Line(_always((x, middle)), label="_", colour=colour, points=True))
    shown = families[np.isfinite(families)]
    panel = Panel(
        tuple(lines),
        record.variables[cut.name].label,
        _scale(shown),
        "log" if _logarithmic(x) else "linear",
        xlabel=_called(along),
    )
    return Figure(stem, (panel,), _caption(cut, [along, *by], where))


def _heat(cut: _Cut, along: str, by: str, stem: str, where: str) -> HeatMap:
    record = cut.record
    values = cut.values(by, along)
    if values.ndim == 3:
        values = band(values).median
    return HeatMap(
        stem,
        values,
        record.coords[along],
        record.coords[by],
        xlabel=_called(along),
        ylabel=_called(by),
        label=record.variables[cut.name].label,
        caption=_caption(cut, [along, by], where),
    )


def _course(record: Trajectory) -> list[Figure | HeatMap]:
    """The loss along the runs, where but one dimension beside seeds has to be shown."""
    loss = record.variables.get("loss")
    if loss is None or loss.dims[0] != TIME:
        return []
    free = [dim for dim in loss.dims[1:] if dim != SEED and len(record.coords[dim]) > 1]
    if len(free) > 1 or any(len(record.coords[dim]) > _LINES for dim in free):
        return []
    single = {d: 0 for d in loss.dims[1:] if d != SEED and len(record.coords[d]) == 1}
    values = _Cut(record, "loss", single).values(*free, TIME)
    families = values if free else values[None]
    labels = record.coords[free[0]] if free else [""]
    lines = []
    for i, label in enumerate(labels):
        place = i / max(1, len(labels) - 1) if free else None
        told = f"{_called(free[0])} {_plain(label)}" if free else "_"
        series = _always((record.time, families[i]))
        lines.append(Line(series, label=told, colour=place, dash="solid"))
    panel = Panel(tuple(lines), "loss", _scale(values[np.isfinite(values)]))
    caption = "The loss along the runs of a sweep, against linear (a) and logarithmic (b) time."
    return [Figure.both_time_scales("loss", panel, caption)]


def _caption(cut: _Cut, dims: list[str], where: str) -> str:
    """In words without formulas: it is read outside of figures."""
    label = cut.record.variables[cut.name].label
    label = cut.name if "$" in label else f"{label[:1].upper()}{label[1:]}"
    told = f"{label} over {' and '.join(dim.replace('_', ' ') for dim in dims)}"
    told += f" at {where}" if where else ""
    seeds = SEED in cut.record.variables[cut.name].dims
    return f"{told}: the median over seeds." if seeds else f"{told}."


def _scale(values: np.ndarray) -> Literal["linear", "log"]:
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    return "log" if low > 0 and high >= _WIDE * low else "linear"


def _logarithmic(x: np.ndarray) -> bool:
    """Whether values are so far apart, or in constant ratio, that a logarithmic axis suits them."""
    if x[0] <= 0 or len(x) < 2:
        return False
    ratios = x[1:] / x[:-1]
    even = len(x) > 2 and ratios.max() < 1.01 * ratios.min() and ratios.min() >= 1.4
    return bool(even or x[-1] >= _WIDE * x[0])


def _called(dim: str) -> str:
    return _NAMES.get(dim, dim.replace("_", " "))


def _plain(value: object) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _always(series: Series) -> Callable[[Trajectory], Series]:
    return lambda _: series
