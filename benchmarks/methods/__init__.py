"""Solvers as they are measured: gradflow's, and what their users would take instead.

All record the states at the same times. A peer takes its tolerances as its documentation has
them; each with its own norm, so only errors and costs can be compared, not tolerances.
"""

from . import by_diffrax, by_extensisq, by_scipy, by_torch, fixed_steps, own
from .method import Method as Method
from .method import Run as Run
from .method import RunFailedError as RunFailedError
from .peers import absence as absence
from .peers import gathered
from .setting import Setting as Setting

# What can be run, and why the rest cannot, by name.
METHODS, MISSING = gathered((own, by_diffrax, by_scipy, by_extensisq, by_torch, fixed_steps))
