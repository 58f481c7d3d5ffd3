"""Solvers by name, and the loop that runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import diffrax
import jax.numpy as jnp

from . import stepping
from .controller import DistanceController as DistanceController
from .controller import whole_state
from .counting import CountedField as CountedField
from .counting import Counter as Counter
from .implicit import VectorChord as VectorChord
from .newton_krylov import NewtonKrylov as NewtonKrylov
from .rkc2 import RKC2 as RKC2
from .rkl2 import RKL2 as RKL2
from .runge_kutta import UnrolledRungeKutta as UnrolledRungeKutta
from .spectral_radius import AbstractSpectralRadius as AbstractSpectralRadius
from .spectral_radius import GivenRadius as GivenRadius
from .spectral_radius import LanczosRadius as LanczosRadius
from .spectral_radius import PowerIteration as PowerIteration
from .stabilised import StabilisedRungeKutta as StabilisedRungeKutta
from .switching import Relaxing, Stiffening, between

# Builds a solver for a tolerance, which the inner iteration of an implicit one needs, and for the
# part of the state whose error counts.
_Builder = Callable[[float, Callable], diffrax.AbstractAdaptiveSolver]


def _explicit(method: type[diffrax.AbstractERK]) -> _Builder:
    return lambda rtol, measured: UnrolledRungeKutta(method())


def _stabilised(method: type[StabilisedRungeKutta]) -> _Builder:
    return lambda rtol, measured: method(measured=measured)


def _implicit(method: Callable[..., diffrax.AbstractESDIRK]) -> _Builder:
    return lambda rtol, measured: method(root_finder=VectorChord(rtol))


def _matrix_free(method: Callable[..., diffrax.AbstractESDIRK]) -> _Builder:
    # As an array, a tolerance compiles nothing again.
    return lambda rtol, measured: NewtonKrylov(method(), jnp.asarray(rtol), measured)


SOLVERS: dict[str, _Builder] = {
    "heun": _explicit(diffrax.Heun),
    "bosh3": _explicit(diffrax.Bosh3),
    "tsit5": _explicit(diffrax.Tsit5),
    "dopri5": _explicit(diffrax.Dopri5),
    "dopri8": _explicit(diffrax.Dopri8),
    "rkc2": _stabilised(RKC2),
    "rkl2": _stabilised(RKL2),
    "kvaerno3": _implicit(diffrax.Kvaerno3),
    "kvaerno4": _implicit(diffrax.Kvaerno4),
    "kvaerno5": _implicit(diffrax.Kvaerno5),
    "kvaerno3-cg": _matrix_free(diffrax.Kvaerno3),
    "kvaerno4-cg": _matrix_free(diffrax.Kvaerno4),
    "kvaerno5-cg": _matrix_free(diffrax.Kvaerno5),
}


@dataclass(frozen=True)
class Choice:
    """A solver of a run.

    Attributes:
        name: what the trajectory calls it.
        solver: the solver.
        switch: when the run's other solver goes on; ``None`` if there is no other.

    >>> import gradflow as gf
    >>> choice = gf.solvers.build("tsit5", rtol=1e-6)[0]
    >>> choice.name, choice.switch
    ('tsit5', None)
    """

    name: str
    solver: diffrax.AbstractAdaptiveSolver
    switch: Stiffening | Relaxing | None = None


def automatic(rtol: float, measured: Callable) -> tuple[Choice, Choice]:
    """The methods between which a run changes: an explicit one first, and a stabilised one.

    The explicit one is that which takes the fewest evaluations at this tolerance where nothing is
    stiff. The thresholds are measured, on the co-occurrence transformer and on digits: see
    ``python -m benchmarks --only fidelity``.

    Args:
        rtol: the tolerance of the run.
        measured: selects the part of the state whose error counts.

    Returns:
        The explicit and the stabilised choice, each with the rule for leaving it.

    >>> import gradflow as gf
    >>> [choice.name for choice in gf.solvers.automatic(1e-6, measured=lambda state: state)]
    ['tsit5', 'rkc2']
    """
    name, method = "dopri8", diffrax.Dopri8
    if rtol >= 5e-5:
        name, method = "bosh3", diffrax.Bosh3
    elif rtol >= 1e-8:
        name, method = "tsit5", diffrax.Tsit5
    explicit = UnrolledRungeKutta(method())
    stiffening, relaxing = between(explicit, rtol, measured)
    stabilised = SOLVERS["rkc2"](rtol, measured)
    return Choice(name, explicit, stiffening), Choice("rkc2", stabilised, relaxing)


def build(
    solver: str | diffrax.AbstractSolver, rtol: float, measured: Callable = whole_state
) -> tuple[Choice, ...]:
    """The solver that is meant; of ``"auto"`` the two between which a run changes.

    Args:
        solver: ``"auto"``, a key of `SOLVERS`, or a solver of diffrax's or of anyone's. Explicit
            Runge-Kutta methods are unrolled; an implicit method that leaves the tolerances of
            its root finder to the step size controller gets `VectorChord`; our stabilised and
            matrix-free ones look at what is measured.
        rtol: the tolerance of the run.
        measured: selects the part of the state whose error counts.

    Returns:
        One choice, or the two of `automatic`.

    Raises:
        ValueError: there is no such name, or the solver has no error estimate to adapt to.

    >>> import diffrax
    >>> import gradflow as gf
    >>> [choice.name for choice in gf.solvers.build("auto", rtol=1e-4)]
    ['bosh3', 'rkc2']
    >>> type(gf.solvers.build(diffrax.Tsit5(), rtol=1e-4)[0].solver).__name__
    'UnrolledRungeKutta'
    """
    if isinstance(solver, str):
        if solver == "auto":
            return automatic(rtol, measured)
        if solver not in SOLVERS:
            raise ValueError(f"no solver {solver!r}; there are auto, {', '.join(SOLVERS)}")
        return (Choice(solver, SOLVERS[solver](rtol, measured)),)
    if isinstance(solver, UnrolledRungeKutta):
        return (Choice(type(solver.method).__name__.lower(), solver),)
    if isinstance(solver, NewtonKrylov):
        return (Choice(solver.name, _tailored(solver, rtol, measured)),)
    name = type(solver).__name__.lower()
    if not isinstance(solver, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            f"{name} has no error estimate, so its steps cannot be adapted to a tolerance; "
            f"take one of {', '.join(SOLVERS)}, or wrap it in diffrax.HalfSolver"
        )
    return (Choice(name, _tailored(solver, rtol, measured)),)


def countable(solver: str | diffrax.AbstractSolver, rtol: float) -> bool:
    """Whether the solver that `build` makes of it says itself how many evaluations it took.

    >>> import gradflow as gf
    >>> gf.solvers.countable("auto", rtol=1e-4), gf.solvers.countable("kvaerno3", rtol=1e-4)
    (True, False)
    """
    return all(stepping.counts(choice.solver) for choice in build(solver, rtol))


def _tailored(solver: Any, rtol: float, measured: Callable) -> Any:
    """The solver with what it leaves open filled in."""
    if isinstance(solver, diffrax.AbstractERK):
        return UnrolledRungeKutta(solver)
    ours = isinstance(solver, StabilisedRungeKutta | NewtonKrylov)
    if ours and solver.measured is whole_state:
        return replace(solver, measured=measured)
    if isinstance(solver, diffrax.AbstractImplicitSolver) and not isinstance(
        getattr(solver.root_finder, "rtol", rtol), float
    ):
        return replace(solver, root_finder=VectorChord(rtol))
    return solver
