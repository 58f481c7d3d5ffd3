"""Descent with momentum as an ordinary differential equation of second order.

With velocity v, gradient g and step h = eta, descent with momentum mu is

    params_{k+1} - params_k = mu (params_k - params_{k-1}) - h g_k - lead (g_k - g_{k-1}),

lead = 0 for the heavy ball (Polyak 1964) and mu h for Nesterov's method. Taylor expansion about
t = h k of both sides gives, up to terms of order h^2,

    mass v' + friction v + lead dg/dt = -g,    mass = h (1 + mu) / 2,  friction = 1 - mu.

At mu fixed it is of second order in h where the methods' usual limits, gradient flow in time
t / (1 - mu) or an equation in sqrt(h) k, are of first: see Kovachki & Stuart, "Continuous Time
Analysis of Momentum Methods", JMLR 2021; Shi, Du, Jordan & Su, "Understanding the acceleration
phenomenon via high-resolution differential equations", Math. Program. 2022, for Nesterov's term
in dg/dt. (The form given here, and its start, are our own derivation.)

No Hessian is needed: with the momentum p = mass v + lead g the equation is p' = -friction v - g.
Where the state would come to rest without any further gradient is `params` + `coast`, with
coast = p / friction: its error is in the units of the parameters, so it is measured with them.

Start. The sum of all steps, mu / (1 - mu) times the last step included, is h / (1 - mu) times the
sum of the gradients, a rectangle rule for their integral. That differs from the integral by half
of the first and last terms: coast(0) = -h g(0) / (2 (1 - mu)) makes up for the first, and the
second is the half step between v and a backward difference.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._linalg import tree_axpy, tree_dot, tree_scale
from ..problem import Problem


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

        @eqx.filter_jit
        def begin(params, data):
            back = -self.learning_rate / (2 * self.friction)
            return tree_scale(back, jax.grad(problem.loss)(params, data))

        return MomentumState(params, begin(params, data), jnp.zeros_like(self.mass))

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
