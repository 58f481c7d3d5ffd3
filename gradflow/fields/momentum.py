"""Descent with momentum as an ordinary differential equation of second order.

With velocity v, gradient g and step h = eta, descent with momentum mu is

    params_{k+1} - params_k = mu (params_k - params_{k-1}) - h g_k - lead (g_k - g_{k-1}),

lead = 0 for the heavy ball (Polyak 1964) and mu h for Nesterov's method. Taylor expansion about
t = h k of both sides gives, up to terms of order h^2,

    mass v' + friction v + lead dg/dt = -g,    mass = h (1 + mu) / 2,  friction = 1 - mu.

At a fixed time and fixed mu the method is within O(h^2) of it, where it is within O(h) of gradient
flow in time t / (1 - mu), the limit that Kovachki & Stuart, "Continuous Time Analysis of Momentum
Methods", JMLR 22 (2021), prove. The first few 1 / (1 - mu) steps, while the velocity builds up,
are at no fixed time: there the method lags by g h mu / (1 - mu)^2 (1 - mu^k), mu^2 above with
Nesterov's term, and the equation has exp(-2 k (1 - mu) / (1 + mu)) in place of mu^k, which is
the same within 0.0004 at mu = 0.9 and 0.014 at 0.5. A term in dg/dt sets Nesterov's method apart
also in Shi, Du, Jordan & Su, "Understanding the acceleration phenomenon via high-resolution
differential equations", Math. Program. 195 (2022), where momentum goes to 1 as h to 0, in time
sqrt(h) k. (The form given here, and its start, are our own derivation.)

No Hessian is needed: with the momentum p = mass v + lead g the equation is p' = -friction v - g.
Where the state would come to rest without any further gradient is `params` + `coast`, with
coast = p / friction: its error is in the units of the parameters, so it is measured with them.

Start. Before the first step there is neither a step nor a gradient. All steps together are

    params_k - params_0 + (mu (params_k - params_{k-1}) + lead g_{k-1}) / (1 - mu)
        = -h / (1 - mu) sum_{j<k} g_j,

and the equation's integral is params(t) - params(0) + coast(t) - coast(0) = -1 / (1 - mu) times
that of g. The sum times h is a rectangle rule, which exceeds the integral by h (g_0 - g_k) / 2.
The part of g_k is the difference between mass v and mu h v, since v = -g / friction + O(h) by
then; that of g_0 is left to the start: coast(0) = -h g_0 / (2 (1 - mu)).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._linalg import tree_axpy, tree_dot, tree_scale
from ..problem import Problem
from .field import AbstractField


class MomentumState(NamedTuple):
    """Parameters, how far they would coast, and the energy dissipated."""

    params: PyTree
    coast: PyTree
    dissipated: Float[Array, ""]


class Momentum(eqx.Module):
    """The mechanism of the fields with momentum.

    Attributes:
        learning_rate: h, shape ``()``.
        momentum: mu, shape ``()``.
        lead: shape ``()``; the weight of dg/dt.
    """

    learning_rate: Float[Array, ""]
    momentum: Float[Array, ""]
    lead: Float[Array, ""]

    @property
    def friction(self) -> Float[Array, ""]:
        """Of the velocity."""
        return 1 - self.momentum

    @property
    def mass(self) -> Float[Array, ""]:
        """Of the acceleration."""
        return self.learning_rate * (1 + self.momentum) / 2

    def start(self, problem: Problem, params: PyTree, data: PyTree) -> MomentumState:
        """The state from which the optimiser's first step is taken; one gradient."""

        coast = _first_coast(self, problem, params, data)
        return MomentumState(params, coast, jnp.zeros_like(self.mass))

    def slope(self, problem: Problem, state: MomentumState, data: PyTree) -> MomentumState:
        """The time derivative of the state: one gradient."""
        loss, g = jax.value_and_grad(problem.loss)(state.params, data)
        # (p - lead g) / mass
        v = jax.tree.map(
            lambda c, g: (self.friction / self.mass) * c - (self.lead / self.mass) * g,
            state.coast,
            g,
        )
        turn = tree_axpy(-1 / self.friction, g, tree_scale(-jnp.ones_like(self.mass), v))
        # d/dt of the loss and of |p|^2 / (2 mass).
        pull = self.friction * tree_dot(g, v) + tree_dot(g, g)
        rate = self.friction * tree_dot(v, v) + (self.lead / self.mass) * pull
        return MomentumState(v, turn, jnp.where(jnp.isfinite(loss), rate, jnp.nan))

    def gradient(self, slope: MomentumState) -> PyTree:
        """grad L, from coast' = -v - g / friction."""
        return jax.tree.map(lambda v, turn: -self.friction * (v + turn), slope.params, slope.coast)

    def energy(self, problem: Problem, state: MomentumState, data: PyTree) -> Float[Array, ""]:
        """L + |p|^2 / (2 mass)."""
        kinetic = jnp.square(self.friction) * tree_dot(state.coast, state.coast) / (2 * self.mass)
        return problem.loss(state.params, data) + kinetic


# A function of the module, not of one field: each run's own would be compiled for each run.
@eqx.filter_jit
def _first_coast(mechanism: Momentum, problem: Problem, params: PyTree, data: PyTree) -> PyTree:
    back = -mechanism.learning_rate / (2 * mechanism.friction)
    return tree_scale(back, jax.grad(problem.loss)(params, data))


class MomentumFlow(AbstractField):
    """The equation of second order of this module's docstring.

    The optimiser is within O(eta^2) of it at a fixed time t = eta x step and fixed mu, the first
    few steps apart.

    Attributes:
        problem: the problem's functions.
        mechanism: the numbers of the equation.
    """

    problem: Problem
    mechanism: Momentum

    symmetric: ClassVar[bool] = False
    init_cost: ClassVar[int] = 1

    def init(self, params: PyTree, data: PyTree) -> MomentumState:
        """The state that stands for the optimiser's own start from `params`."""
        return self.mechanism.start(self.problem, params, data)

    def __call__(self, t: Float[Array, ""], state: MomentumState, data: PyTree) -> MomentumState:
        """The time derivative of the state: one evaluation of grad L."""
        return self.mechanism.slope(self.problem, state, data)

    @staticmethod
    def measured(state: MomentumState) -> PyTree:
        """The parameters, and how far they would coast."""
        return state.params, state.coast

    @staticmethod
    def params(state: MomentumState) -> PyTree:
        """The parameters."""
        return state.params

    @staticmethod
    def dissipated(state: MomentumState) -> Float[Array, ""]:
        """What the energy has lost."""
        return state.dissipated

    def gradient(self, state: MomentumState, slope: MomentumState, data: PyTree) -> PyTree:
        """grad L, read off the slope."""
        return self.mechanism.gradient(slope)

    def energy(self, state: MomentumState, gradient: PyTree, data: PyTree) -> Float[Array, ""]:
        """The loss and the kinetic energy."""
        return self.mechanism.energy(self.problem, state, data)
