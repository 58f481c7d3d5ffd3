"""Counting gradient evaluations where a solver does not say how many it makes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp


class Counter:
    """Gradient evaluations seen by the host so far, from any thread.

    >>> import gradflow as gf
    >>> counter = gf.solvers.Counter()
    >>> counter.add(3)
    >>> counter.read()
    3
    """

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def add(self, amount) -> None:
        """Called from the compiled program, once for each evaluation."""
        with self._lock:
            self._count += int(amount)

    def set(self, count: int) -> None:
        """Go on from `count`."""
        jax.effects_barrier()
        with self._lock:
            self._count = count

    def read(self) -> int:
        """The count, once everything under way has been counted."""
        jax.effects_barrier()
        return self._count


class CountedField(eqx.Module):
    """A vector field that reports each of its evaluations to `counter`.

    An evaluation counts as one. A Jacobian-vector product, which is a Hessian-vector product of
    the loss, counts as two: as a forward derivative is taken of the field, that is one beside the
    evaluation itself and two where only the product is evaluated, as in a linearisation.

    Attributes:
        field: ``(t, state, data)`` to the time derivative of the state.
        counter: told of each evaluation, while the compiled program runs.

    >>> import gradflow as gf
    >>> import jax.numpy as jnp
    >>> counter = gf.solvers.Counter()
    >>> field = gf.solvers.CountedField(lambda t, y, data: -y, counter)
    >>> field(0.0, jnp.ones(2), None).tolist(), counter.read()
    ([-1.0, -1.0], 1)
    """

    field: Callable
    counter: Counter = eqx.field(static=True)

    def __call__(self, t, state, data):
        """The field's value; counts it."""
        return _counted(self.counter, self.field, t, state, data)


def _counted(counter: Counter, field, t, state, data):
    dynamic, static = eqx.partition((field, data), eqx.is_array)

    @jax.custom_jvp
    def evaluate(t, state, dynamic):
        field, data = eqx.combine(dynamic, static)
        jax.debug.callback(lambda: counter.add(1))
        return field(t, state, data)

    @evaluate.defjvp
    def _(primals, tangents):
        def plain(t, state, dynamic):
            field, data = eqx.combine(dynamic, static)
            return field(t, state, data)

        value, slope = jax.jvp(plain, primals, tangents)
        jax.debug.callback(lambda: counter.add(1))
        # An operand that depends on the tangent makes vmap call this once for each product.
        witness = jax.tree.leaves(slope)[0].ravel()[0]
        jax.debug.callback(lambda _: counter.add(2), jnp.real(witness))
        return value, slope

    return evaluate(t, state, dynamic)
