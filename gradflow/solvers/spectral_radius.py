"""Estimates of the spectral radius of a vector field's Jacobian, for stabilised methods."""

from __future__ import annotations

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from diffrax import ODETerm
from jaxtyping import Array, Float, Int, PyTree

from .._linalg import positive, tree_axpy, tree_norm, tree_scale, tree_sub
from .controller import whole_state


class AbstractSpectralRadius(eqx.Module):
    """How a stabilised method learns how stiff its equation is at the moment."""

    @abc.abstractmethod
    def init(self, y0: PyTree) -> PyTree:
        """What the estimator remembers from one estimate to the next.

        Args:
            y0: the state at the start.
        """

    @abc.abstractmethod
    def estimate(
        self, terms: ODETerm, t, y: PyTree, slope: PyTree, args: PyTree, memory: PyTree
    ) -> tuple[Float[Array, ""], PyTree, Int[Array, ""]]:
        """A bound, meant to be tight, of the Jacobian's spectral radius at one point.

        Args:
            terms: the vector field.
            t: the time.
            y: the state.
            slope: the vector field there.
            args: passed to the vector field.
            memory: what the last estimate, or `init`, returned.

        Returns:
            The radius, in units of one over time; what to remember; and how many evaluations of
            the vector field it took, a product with the Jacobian counted as two.
        """


class PowerIteration(AbstractSpectralRadius):
    """Power iteration, started from the direction that it found the last time.

    A product with the Jacobian is one difference of slopes (F(y + e v) - F(y)) / e: one
    evaluation, where the exact product costs two, and digits to spare for a number that a safety
    factor follows. While the direction still holds, an estimate is one evaluation.

    It finds the largest eigenvalue in absolute value, so strong negative curvature counts, and
    from below: among clustered eigenvalues it may stop early, hence the safety factor
    (Sommeijer, Shampine & Verwer 1997, Section 3.3).

    Attributes:
        safety: what the estimate is multiplied by.
        tolerance: of the relative change from one iteration to the next.
        most: iterations after which it makes do with what it has.
        measured: selects the part of the state on which the Jacobian acts; of a gradient flow,
            the parameters.
    """

    safety: float = 1.1
    tolerance: float = 0.02
    most: int = 50
    measured: Callable = eqx.field(static=True, default=whole_state)

    def init(self, y0: PyTree) -> PyTree:
        """No direction and no estimate yet."""
        part = self.measured(y0)
        return jax.tree.map(jnp.zeros_like, part), jnp.zeros((), tree_norm(part).dtype)

    def estimate(self, terms, t, y, slope, args, memory):
        """See `AbstractSpectralRadius.estimate`."""
        start, last = memory
        base, f0 = self.measured(y), self.measured(slope)
        first = last == 0
        start = jax.lax.cond(first, lambda: _mixed(f0), lambda: start)
        root = jnp.sqrt(jnp.finfo(last.dtype).eps)
        nudge = root * (tree_norm(base) + root)

        def going(carry):
            _, radius, previous, products = carry
            settled = jnp.abs(radius - previous) <= self.tolerance * radius
            return (products < self.most) & ~(settled & (products > 0))

        def multiply(carry):
            direction, radius, _, products = carry
            moved = eqx.tree_at(self.measured, y, tree_axpy(nudge, direction, base))
            image = tree_sub(self.measured(terms.vf(t, moved, args)), f0)
            size = tree_norm(image)
            direction = tree_scale(1 / positive(size), image)
            return direction, size / nudge, radius, products + 1

        carry = (start, last, last, jnp.zeros((), jnp.int32))
        direction, radius, _, products = jax.lax.while_loop(going, multiply, carry)
        return self.safety * radius, (direction, radius), products


class GivenRadius(AbstractSpectralRadius):
    """A function of the user's own.

    Attributes:
        function: ``(t, y, args)`` to an upper bound of the spectral radius, a scalar of at least
            zero.
        evaluations: how many evaluations of the vector field one call of it is worth.
    """

    function: Callable
    evaluations: int = 0

    def init(self, y0: PyTree) -> None:
        """Nothing to remember."""

    def estimate(self, terms, t, y, slope, args, memory):
        """See `AbstractSpectralRadius.estimate`."""
        del terms, slope
        radius = jnp.asarray(self.function(t, y, args))
        radius = eqx.error_if(
            radius,
            ~(radius >= 0),
            "the spectral radius that was given is NaN or negative; it must be at least the "
            "largest |eigenvalue| of the Jacobian. Check the function, or leave it out: "
            "PowerIteration() estimates it",
        )
        return radius, memory, jnp.asarray(self.evaluations, jnp.int32)


def _mixed(slope: PyTree) -> PyTree:
    """The slope's direction and a random one: where symmetry hides the top from the slope."""
    leaves, structure = jax.tree.flatten(slope)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    noise = [
        jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)
    ]
    noise = jax.tree.unflatten(structure, noise)
    unit = tree_scale(1 / positive(tree_norm(slope)), slope)
    sum_ = tree_axpy(1 / tree_norm(noise), noise, unit)
    return tree_scale(1 / positive(tree_norm(sum_)), sum_)
