"""Variables drawn onto a user's own axes, in the user's own style."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

from ..trajectory import Trajectory
from .automatic import of_variable
from .curves import curves
from .drawing import STYLE, plot_curves
from .figures import Line, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(
    trajectory: Trajectory,
    *names: str,
    ax: Axes | None = None,
    xscale: Literal["linear", "log"] = "linear",
    yscale: Literal["linear", "log", "symlog"] | None = None,
    **labels: Any,
) -> Axes:
    """Variables against time, a line for every label of their other axes.

    Args:
        trajectory: what was recorded.
        names: of the variables; the loss if none is given, or else the first there is.
        ax: where to draw; a new figure of pyplot's if not given.
        xscale: how time runs; ``"log"`` leaves out time 0.
        yscale: how the values run; logarithmically, if not given, where they are positive and
            range over more than a factor of a hundred.
        labels: a label on an axis of the variables, e.g. ``word=1``, to draw that alone.

    Returns:
        The axes, to go on with.

    Raises:
        KeyError: no such variable, axis or label.
        ValueError: a trajectory without any variable.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)
    >>> flow = gf.solve(problem, t1=2.0, save=gf.Linear(count=5))
    >>> ax = gf.plotting.plot(flow, "loss", "grad_norm")
    >>> [line.get_label() for line in ax.get_lines()]
    ['loss', 'gradient norm']
    """
    chosen = names or tuple(name for name in ("loss", *trajectory) if name in trajectory)[:1]
    if not chosen:
        raise ValueError("the trajectory has no variable to draw")
    lines: list[Line] = []
    scales = set()
    for name in chosen:
        trajectory.sel(name, **labels)  # raises where something is missing
        panel = of_variable(trajectory, name).panels[0]
        scales.add(panel.yscale)
        kept = [line for line in panel.lines if labels.items() <= dict(line.select).items()]
        # More labels than are drawn by themselves: what was asked for is drawn all the same.
        lines += kept or [Line(name, labels)]
    own = scales.pop() if len(scales) == 1 else "linear"
    panel = Panel(tuple(lines), xscale=xscale, yscale=yscale or own)
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(layout="constrained")[1]
    drawn = curves(panel, trajectory)
    if not drawn:
        return ax
    entries = plot_curves(ax, panel, drawn)
    ax.set(xlabel="time $t$", ylabel=drawn[0].name if len(chosen) == 1 else "")
    if entries:
        ax.legend(handles=entries)
    return ax


def style() -> AbstractContextManager[None]:
    """The style of the command's figures, for the plots that are made within.

    >>> import gradflow as gf, matplotlib
    >>> with gf.plotting.style():
    ...     matplotlib.rcParams["font.size"]
    8.0
    """
    import matplotlib

    return matplotlib.rc_context(STYLE)
