"""Figures of quantities that nobody has drawn a figure for."""

from __future__ import annotations

from itertools import product

import numpy as np

from ..trajectory import SEED, TIME, Trajectory
from .figures import Figure, Line, Panel

# What every run records, which has figures of its own.
_COMMON = {"loss", "grad_norm", "distance", "dissipated", "energy_residual", "flow_energy"}
_COMMON |= {"error", "relative_error", "balancedness"}
# And of the Hessian, which has one too.
_SPECTRAL = {"sharpness", "hessian_eigenvalue", "hessian_trace", "effective_rank"}
_SPECTRAL |= {"sharpness_residual", "hessian_eigenvalue_residual", "hessian_trace_standard_error"}
_MOST = 6  # lines in a figure


def automatic(trajectory: Trajectory) -> tuple[Figure, ...]:
    """A figure of every variable over time that is not one of the common ones.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> weight = gf.Variable(np.array([1.0, 0.5]), ("time",))
    >>> times = {"time": np.array([0.0, 1.0])}
    >>> flow = gf.Trajectory({"weight": weight}, times, 1.0, stats={}, result="end_time")
    >>> [figure.name for figure in gf.plotting.automatic(flow)]
    ['weight']
    """
    names = [
        name
        for name, variable in trajectory.variables.items()
        if name not in _COMMON
        and variable.dims[0].startswith(TIME)
        and name.removesuffix("_error") not in {*trajectory.variables} - {name}
        and name not in _SPECTRAL
    ]
    return tuple(of_variable(trajectory, name) for name in names)


def of_variable(trajectory: Trajectory, name: str) -> Figure:
    """One variable against linear and against logarithmic time, a line for every label.

    Of more labels than lines can be told apart, some are drawn, evenly spaced.

    Raises:
        KeyError: there is no such variable.
    """
    variable = trajectory.variables[name]
    dims = [dim for dim in variable.dims[1:] if dim != SEED]
    labels = list(product(*(trajectory.coords[dim].tolist() for dim in dims)))
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(_MOST, len(labels))).round().astype(int))
    lines = tuple(Line(name, dict(zip(dims, labels[i], strict=True))) for i in chosen)
    values = variable.values[np.isfinite(variable.values)]
    wide = values.size > 0 and values.min() > 0 and values.max() > 100 * values.min()
    some = f" {len(chosen)} of its {len(labels)} entries." if len(chosen) < len(labels) else ""
    caption = "along the run, against linear (a) and logarithmic (b) time."
    return Figure.both_time_scales(
        name,
        Panel(lines, yscale="log" if wide else "linear"),
        f"{variable.label or name} {caption}{some}",
    )
