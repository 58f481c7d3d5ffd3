"""Solvers by name, and the loop that runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import diffrax

from .controller import DistanceController as DistanceController
from .counting import CountedField as CountedField
from .counting import Counter as Counter
from .implicit import VectorChord as VectorChord
from .runge_kutta import StageInterpolation as StageInterpolation
from .runge_kutta import UnrolledRungeKutta as UnrolledRungeKutta


def _explicit(
    method: type[diffrax.AbstractERK],
) -> Callable[[float], diffrax.AbstractAdaptiveSolver]:
    return lambda _: UnrolledRungeKutta(method())


def _implicit(
    method: Callable[..., diffrax.AbstractESDIRK],
) -> Callable[[float], diffrax.AbstractAdaptiveSolver]:
    return lambda rtol: method(root_finder=VectorChord(rtol))


# Each builds its solver for a tolerance, which the inner iteration of an implicit one needs.
SOLVERS: dict[str, Callable[[float], diffrax.AbstractAdaptiveSolver]] = {
    "heun": _explicit(diffrax.Heun),
    "bosh3": _explicit(diffrax.Bosh3),
    "tsit5": _explicit(diffrax.Tsit5),
    "dopri5": _explicit(diffrax.Dopri5),
    "dopri8": _explicit(diffrax.Dopri8),
    "kvaerno3": _implicit(diffrax.Kvaerno3),
    "kvaerno4": _implicit(diffrax.Kvaerno4),
    "kvaerno5": _implicit(diffrax.Kvaerno5),
}


def automatic(rtol: float) -> str:
    """The explicit method that takes the fewest evaluations at this tolerance.

    The thresholds are measured, on the co-occurrence transformer and on digits: see
    ``python -m benchmarks.tolerance``.
    """
    if rtol >= 5e-5:
        return "bosh3"
    return "tsit5" if rtol >= 1e-8 else "dopri8"


def build(
    solver: str | diffrax.AbstractSolver, rtol: float
) -> tuple[str, diffrax.AbstractAdaptiveSolver]:
    """The solver that is meant, and its name.

    Args:
        solver: ``"auto"``, a key of `SOLVERS`, or a solver of diffrax's or of anyone's. Explicit
            Runge-Kutta methods are unrolled; an implicit method that leaves the tolerances of
            its root finder to the step size controller gets `VectorChord`.
        rtol: the tolerance of the run.

    Raises:
        ValueError: there is no such name, or the solver has no error estimate to adapt to.
    """
    if isinstance(solver, str):
        name = automatic(rtol) if solver == "auto" else solver
        if name not in SOLVERS:
            raise ValueError(f"no solver {name!r}; there are auto, {', '.join(SOLVERS)}")
        return name, SOLVERS[name](rtol)
    if isinstance(solver, UnrolledRungeKutta):
        return type(solver.method).__name__.lower(), solver
    name = type(solver).__name__.lower()
    if not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            f"{name} has no error estimate, so its steps cannot be adapted to a tolerance; "
            f"take one of {', '.join(SOLVERS)}, or wrap it in diffrax.HalfSolver"
        )
    if isinstance(solver, diffrax.AbstractERK):
        return name, UnrolledRungeKutta(solver)
    left_open = isinstance(solver, diffrax.AbstractImplicitSolver) and not isinstance(
        getattr(solver.root_finder, "rtol", rtol), float
    )
    return name, replace(solver, root_finder=VectorChord(rtol)) if left_open else solver
