"""A number over two quantities, as colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Canvas

_WIDTH, _ROW, _LEAST, _MOST = 3.4, 0.24, 1.2, 3.0  # inches: the page, a row, and all rows
_DPI = 200
_TICKS = {"x": 6, "y": 8}  # along the axes
_WRITTEN = 7, 12  # up to so many columns and rows the numbers stand in their cells
_WIDE = 20.0  # values so many times apart ask for a logarithmic scale


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A number over a grid; every cell has the same size, whatever lies between its values.

    Attributes:
        name: the stem of its files.
        values: the numbers, shape ``(rows, columns)``; one that is not finite is left grey.
        columns, rows: what stands along the two axes, numbers or text, rows from below.
        xlabel, ylabel: names of the axes.
        label: what is shown as colour.
        caption: for whoever prints the figure; kept inside the files.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> drift = np.array([[1e-3, 2e-3], [1e-2, 2e-2]])
    >>> names = {"xlabel": "learning rate", "ylabel": "width", "label": "drift"}
    >>> heat = gf.plotting.HeatMap("drift", drift, columns=[0.1, 0.2], rows=[8, 16], **names)
    >>> [ax.get_ylabel() for ax in gf.plotting.draw(heat, None).axes]
    ['width', 'drift']
    """

    name: str
    values: np.ndarray
    columns: Sequence[Any] | np.ndarray
    rows: Sequence[Any] | np.ndarray
    xlabel: str
    ylabel: str
    label: str
    caption: str = ""

    def __post_init__(self) -> None:
        shape = len(self.rows), len(self.columns)
        if self.values.shape != shape:
            raise ValueError(f"values of shape {self.values.shape} for a grid of shape {shape}")


def draw_heat_map(
    figure: HeatMap, style: dict[Any, Any], set_ticks: Callable[[Axis, str, str], None]
) -> Canvas | None:
    """The heat map in a matplotlib `style`; ``None`` without any finite number.

    `set_ticks` names an axis by its scale, linear or log, and its label.
    """
    finite = figure.values[np.isfinite(figure.values)]
    if not finite.size:
        return None
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure as Canvas

    low, high = float(finite.min()), float(finite.max())
    log = low > 0 and high / low >= _WIDE
    height = float(np.clip(_ROW * len(figure.rows), _LEAST, _MOST))
    with matplotlib.rc_context(style):
        canvas = Canvas(figsize=(_WIDTH, height + 0.5), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(canvas)
        ax = canvas.add_subplot()
        ax.grid(False)
        ax.set_facecolor("0.85")
        norm = LogNorm(low, high) if log else Normalize(low, high)
        cells = ax.pcolormesh(
            np.ma.masked_invalid(figure.values), cmap="viridis", norm=norm, rasterized=True
        )
        _name(ax, figure)
        bar = canvas.colorbar(cells, ax=ax, pad=0.02)
        bar.outline.set_linewidth(0.6)  # pyright: ignore[reportCallIssue]
        set_ticks(bar.ax.yaxis, "log" if log else "linear", figure.label)
        if len(figure.columns) <= _WRITTEN[0] and len(figure.rows) <= _WRITTEN[1]:
            for (row, column), value in np.ndenumerate(figure.values):
                if np.isfinite(value):
                    # White on the dark half of the scale.
                    colour = "white" if norm(value) < 0.6 else "black"
                    at = {"ha": "center", "va": "center", "color": colour, "fontsize": 6.5}
                    ax.text(column + 0.5, row + 0.5, f"{value:.3g}", **at)
        canvas.draw_without_rendering()
        return canvas


def _name(ax: Axes, figure: HeatMap) -> None:
    """What stands along the axes, at some of the cells where there are many."""
    for axis, labels, name in (
        (ax.xaxis, figure.columns, figure.xlabel),
        (ax.yaxis, figure.rows, figure.ylabel),
    ):
        every = -(-len(labels) // _TICKS[axis.axis_name])
        shown = range(0, len(labels), every)
        axis.set_ticks(
            [i + 0.5 for i in shown],
            labels=[x if isinstance(x, str) else f"{x:.3g}" for x in (labels[i] for i in shown)],
        )
        axis.set_tick_params(length=0)
        axis.set_label_text(name)
