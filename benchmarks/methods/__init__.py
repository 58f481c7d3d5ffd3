"""Solvers as they are measured: gradflow's, and what their users would take instead.

All record the states at the same times. A peer takes its tolerances as its documentation has
them; each with its own norm, so only errors and costs can be compared, not tolerances.
"""

from . import by_diffrax, by_scipy, fixed_steps, own
from .method import Method as Method
from .method import Run as Run
from .method import RunFailedError as RunFailedError
from .setting import Setting as Setting

METHODS: dict[str, Method] = {
    method.name: method
    for room in (own, by_diffrax, by_scipy, fixed_steps)
    for method in room.METHODS
}
