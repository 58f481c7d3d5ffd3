"""When to change between an explicit and a stabilised method in the middle of a run.

An explicit Runge-Kutta method with p evaluations a step that is stable for step * radius up to
beta gets at most beta / p of step * radius for an evaluation; a stabilised method of s stages gets
0.65 s. A run changes to the stabilised method where stability, not accuracy, holds the explicit
one's steps down, and back where it gets less for an evaluation than the explicit one could.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from diffrax import ODETerm
from jaxtyping import Array, Bool, Float, Int, PyTree

from .branch import only_if
from .runge_kutta import UnrolledRungeKutta
from .spectral_radius import Point, PowerIteration

_EVERY = 4  # attempted steps from one look at the spectral radius to the next
_NEAR = 0.6  # share of the stability limit at which a step counts as held down by it
_HITS = 2  # looks in a row that must find it so
_REGRET = 20  # evaluations that a stabilised method may lose against the explicit one


class Attempt(NamedTuple):
    """One attempted step, as a rule for switching sees it."""

    term: ODETerm
    t: Float[Array, ""]
    step: Float[Array, ""]
    state: PyTree
    data: PyTree
    solver_state: PyTree
    keep: Bool[Array, ""]


class Memory(eqx.Module):
    """What a rule for switching remembers.

    Attributes:
        attempts: since its solver took over.
        hits: looks in a row that found the step held down by stability.
        saved: evaluations that a stabilised method has saved in this leg against the explicit one.
        regret: how far that is below its highest.
        direction: of the power iteration; ``None`` while the solver itself keeps it.
    """

    attempts: Int[Array, ""]
    hits: Int[Array, ""]
    saved: Float[Array, ""]
    regret: Float[Array, ""]
    direction: PyTree

    @classmethod
    def fresh(cls, dtype: Any, direction: PyTree = None) -> Memory:
        """At the start of a leg."""
        zero = jnp.zeros((), jnp.int32)
        return cls(zero, zero, jnp.zeros((), dtype), jnp.zeros((), dtype), direction)


class Stiffening(eqx.Module):
    """From an explicit method to a stabilised one.

    Worth a look only while a step h is short of t sqrt(rtol). A flow settles down on a logarithmic
    time scale, y' ~ 1/t or like it, so that accuracy allows a method of second order about that,
    and an explicit method whose steps are longer takes few of them for each factor of t anyway.
    Then one power iteration now and then, one evaluation, follows the spectral radius from below.

    Attributes:
        reach: the square root of the tolerance.
        limit: the explicit method is stable for step * radius up to this.
        estimator: the power iteration.
        measured: selects the part of the state on which the Jacobian acts.
    """

    reach: Float[Array, ""]
    limit: float = eqx.field(static=True)
    estimator: PowerIteration
    measured: Callable = eqx.field(static=True)

    def enter(self, state: PyTree, direction: PyTree = None) -> Memory:
        """As its solver begins, or takes over with a direction known."""
        if direction is None:
            direction = self.estimator.init(self.measured(state))
        return Memory.fresh(jax.tree.leaves(state)[0].dtype, direction)

    def look(
        self, tried: Attempt, memory: Memory, patience: Int[Array, ""]
    ) -> tuple[Bool[Array, ""], Memory, Int[Array, ""]]:
        """Whether to leave, what to remember, and the evaluations that looking took.

        Args:
            tried: the attempt.
            memory: as of the last attempt.
            patience: attempts before the first look.
        """
        attempts = memory.attempts + 1
        short = tried.step < self.reach.astype(tried.t.dtype) * tried.t
        due = tried.keep & short & (attempts > patience) & (attempts % _EVERY == 0)

        def estimate():
            # An explicit method's state is the slope.
            point = Point.of(
                tried.term, tried.t, tried.state, tried.solver_state, tried.data, self.measured
            )
            return self.estimator.estimate(point, memory.direction)

        nothing = jnp.zeros((), memory.saved.dtype), memory.direction, jnp.zeros((), jnp.int32)
        radius, direction, spent = only_if(due, estimate, nothing)
        near = tried.step.astype(radius.dtype) * radius >= _NEAR * self.limit
        hits = jnp.where(due, jnp.where(near, memory.hits + 1, 0), memory.hits)
        memory = Memory(attempts, hits, memory.saved, memory.regret, direction)
        return hits >= _HITS, memory, spent


class Relaxing(eqx.Module):
    """From a stabilised method back to an explicit one.

    Attributes:
        rate: what the explicit method gets of step * radius for an evaluation, at best.
    """

    rate: float = eqx.field(static=True)

    def enter(self, state: PyTree, direction: PyTree = None) -> Memory:
        """As its solver takes over, which keeps the direction itself."""
        del direction
        return Memory.fresh(jax.tree.leaves(state)[0].dtype)

    def look(
        self, tried: Attempt, memory: Memory, patience: Int[Array, ""]
    ) -> tuple[Bool[Array, ""], Memory, Int[Array, ""]]:
        """See `Stiffening.look`; costs nothing, and `patience` does not count."""
        del patience
        radius = tried.solver_state.radius
        gained = jnp.where(tried.keep, tried.step.astype(radius.dtype) * radius, 0)
        # The explicit method would have taken this many at the very least. The first estimate of
        # the radius is dear; later ones are a small share of the work, and none counts here.
        saved = gained / self.rate - tried.solver_state.stages.astype(radius.dtype)
        regret = jnp.maximum(memory.regret - saved, 0)
        attempts, saved = memory.attempts + 1, memory.saved + saved
        leave = tried.keep & (regret > _REGRET)
        return leave, Memory(attempts, memory.hits, saved, regret, None), jnp.zeros((), jnp.int32)


def between(
    explicit: UnrolledRungeKutta, rtol: float, measured: Callable
) -> tuple[Stiffening, Relaxing]:
    """The rules for leaving an explicit method for a stabilised one, and for coming back.

    Args:
        explicit: the explicit method.
        rtol: the tolerance of the run.
        measured: selects the part of the state on which the Jacobian acts.
    """
    watch = PowerIteration(safety=1.0, most=1)
    limit = explicit.stability_limit
    return Stiffening(jnp.sqrt(rtol), limit, watch, measured), Relaxing(
        limit / explicit.step_evaluations
    )
