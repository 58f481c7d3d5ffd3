"""Estimates of the spectral radius of a vector field's Jacobian, for stabilised methods."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from .._linalg import positive, tree_axpy, tree_norm, tree_scale, tree_sub
from .._spectral import lanczos, unit
from .runge_kutta import vector_field


class Point(NamedTuple):
    """Where an estimate is wanted.

    Attributes:
        t: the time.
        state: the whole state.
        args: passed to the vector field.
        part: the part of the state on which the Jacobian acts; of a gradient flow, the
            parameters.
        slope: that part of the vector field's value.
        field: from such a part to that of the vector field.
    """

    t: Any
    state: PyTree
    args: PyTree
    part: PyTree
    slope: PyTree
    field: Callable[[PyTree], PyTree]

    @classmethod
    def of(
        cls, terms: diffrax.AbstractTerm, t, state: PyTree, slope: PyTree, args, measured: Callable
    ) -> Point:
        """The point `state` of a vector field of which `measured` selects the part that counts."""

        def field(part: PyTree) -> PyTree:
            return measured(vector_field(terms, t, eqx.tree_at(measured, state, part), args))

        return cls(t, state, args, measured(state), measured(slope), field)


class AbstractSpectralRadius(eqx.Module):
    """How a stabilised method learns how stiff its equation is at the moment.

    >>> import gradflow as gf
    >>> import jax.numpy as jnp
    >>> class Constant(gf.solvers.AbstractSpectralRadius):
    ...     value: float
    ...     def init(self, part):
    ...         return None
    ...     def estimate(self, point, memory):
    ...         return jnp.asarray(self.value), memory, jnp.asarray(0)
    >>> gf.solvers.RKC2(Constant(2.0)).spectral_radius.value
    2.0
    """

    @abc.abstractmethod
    def init(self, part: PyTree) -> PyTree:
        """What the estimator remembers from one estimate to the next.

        Args:
            part: the part of the state on which the Jacobian acts, at the start.
        """

    @abc.abstractmethod
    def estimate(
        self, point: Point, memory: PyTree
    ) -> tuple[Float[Array, ""], PyTree, Int[Array, ""]]:
        """A bound, meant to be tight, of the Jacobian's spectral radius at one point.

        Args:
            point: where.
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

    >>> import diffrax, jax.numpy as jnp
    >>> import gradflow as gf
    >>> from gradflow.solvers.spectral_radius import Point
    >>> term, y = diffrax.ODETerm(lambda t, y, args: jnp.array([-3.0, -5.0]) * y), jnp.ones(2)
    >>> point = Point.of(term, 0.0, y, term.vf(0.0, y, None), None, measured=lambda y: y)
    >>> power = gf.solvers.PowerIteration(safety=1.0, tolerance=1e-4)
    >>> radius, memory, evaluations = power.estimate(point, power.init(y))
    >>> round(float(radius), 2)
    5.0
    """

    safety: float = 1.1
    tolerance: float = 0.02
    most: int = 50

    def __check_init__(self):
        if not self.safety >= 1:
            raise ValueError(
                f"safety = {self.safety} is below one: power iteration finds the radius from "
                "below, and a method would be unstable; take 1.1"
            )

    def init(self, part: PyTree) -> PyTree:
        """No direction and no estimate yet."""
        return jax.tree.map(jnp.zeros_like, part), jnp.zeros((), tree_norm(part).dtype)

    def estimate(self, point, memory):
        """See `AbstractSpectralRadius.estimate`."""
        start, last = memory
        start = jax.lax.cond(last == 0, lambda: _mixed(point.slope), lambda: start)
        root = jnp.sqrt(jnp.finfo(last.dtype).eps)
        nudge = root * (tree_norm(point.part) + root)

        def going(carry):
            _, radius, previous, products = carry
            settled = jnp.abs(radius - previous) <= self.tolerance * radius
            return (products < self.most) & ~(settled & (products > 0))

        def multiply(carry):
            direction, radius, _, products = carry
            image = tree_sub(point.field(tree_axpy(nudge, direction, point.part)), point.slope)
            size = tree_norm(image)
            direction = tree_scale(1 / positive(size), image)
            return direction, size / nudge, radius, products + 1

        carry = (start, last, last, jnp.zeros((), jnp.int32))
        direction, radius, _, products = jax.lax.while_loop(going, multiply, carry)
        return self.safety * radius, (direction, radius), products


class LanczosRadius(AbstractSpectralRadius):
    """Lanczos' method on exact products with the Jacobian, which must be symmetric.

    The largest |Ritz value| and its residual are a bound that is rarely exceeded, and close where
    the residual is small (Zhou & Li, Bounding the spectrum of large Hermitian matrices, 2011).
    It tells clustered eigenvalues apart where `PowerIteration` needs its safety factor, at two
    evaluations a product and as many vectors in memory as products.

    Attributes:
        products: for each estimate, started from the eigenvector found the last time.

    >>> import diffrax, equinox as eqx, jax.numpy as jnp
    >>> import gradflow as gf
    >>> from gradflow.solvers.spectral_radius import Point
    >>> term, y = diffrax.ODETerm(lambda t, y, args: jnp.array([-3.0, -5.0]) * y), jnp.ones(2)
    >>> point = Point.of(term, 0.0, y, term.vf(0.0, y, None), None, measured=lambda y: y)
    >>> lanczos = gf.solvers.LanczosRadius(products=2)
    >>> radius, memory, evaluations = eqx.filter_jit(lanczos.estimate)(point, lanczos.init(y))
    >>> round(float(radius), 3), int(evaluations)
    (5.0, 5)
    """

    products: int = eqx.field(static=True, default=6)

    def init(self, part: PyTree) -> Float[Array, " n"]:
        """No direction yet."""
        return jnp.zeros_like(ravel_pytree(part)[0])

    def estimate(self, point, memory):
        """See `AbstractSpectralRadius.estimate`."""
        part, unravel = ravel_pytree(point.part)
        _, product = jax.linearize(lambda x: ravel_pytree(point.field(unravel(x)))[0], part)
        noise = jax.random.normal(jax.random.key(0), part.shape, part.dtype)
        slope = ravel_pytree(point.slope)[0]
        start = jnp.where(jnp.any(memory != 0), memory, unit(noise) + slope / tree_norm(slope))
        start = jnp.where(jnp.all(jnp.isfinite(start)), start, noise)
        products = min(self.products, part.size)
        ritz = lanczos(product, start, noise, products)
        bounds = jnp.abs(ritz.values) + ritz.residuals
        top = jnp.argmax(jnp.abs(ritz.values))
        evaluations = jnp.asarray(1 + 2 * products, jnp.int32)
        return jnp.max(bounds), ritz.rotation[:, top] @ ritz.basis, evaluations


class GivenRadius(AbstractSpectralRadius):
    """A function of the user's own.

    Asked at the start of a step, once twenty evaluations have gone into stages since the last
    time, and whenever a step was refused.

    Attributes:
        function: ``(t, y, args)`` to an upper bound of the spectral radius, a scalar of at least
            zero.
        evaluations: how many evaluations of the vector field one call of it is worth.

    >>> import gradflow as gf
    >>> from gradflow.solvers.spectral_radius import Point
    >>> given = gf.solvers.GivenRadius(lambda t, y, args: 2.0 * t)  # for `RKC2(given)`
    >>> point = Point(t=3.0, state=None, args=None, part=None, slope=None, field=None)
    >>> float(given.estimate(point, memory=None)[0])
    6.0
    """

    function: Callable
    evaluations: int = 0

    def init(self, part: PyTree) -> None:
        """Nothing to remember."""

    def estimate(self, point, memory):
        """See `AbstractSpectralRadius.estimate`."""
        radius = jnp.asarray(self.function(point.t, point.state, point.args))
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
