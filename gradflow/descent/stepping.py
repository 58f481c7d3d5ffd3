"""The compiled loop of a descent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from .._linalg import tree_finite
from ..problem import Problem
from .batches import Batches

# An optimiser of optax, or what makes one from the learning rate: `optax.sgd`, `optax.adam`, a
# lambda. Of the second kind one program serves all learning rates.
Optimiser = optax.GradientTransformation | Callable[[Any], optax.GradientTransformation]

# Not all of optax promotes dtypes as strictly as a user may have JAX do.
_PROMOTION = "standard"


class Descent(eqx.Module):
    """What is iterated.

    Attributes:
        problem: the problem's functions.
        optimiser: as `descend` takes it.
        learning_rate: shape ``()``.
        batches: how samples are drawn for each step; ``None`` for all of them.
        key: from which they are drawn.
    """

    problem: Problem
    optimiser: Optimiser = eqx.field(static=True)
    learning_rate: Float[Array, ""]
    batches: Batches | None
    key: Key[Array, ""] | None

    @classmethod
    def of(
        cls,
        problem: Problem,
        optimiser: Optimiser,
        learning_rate: float,
        batch_size: int | None,
        key: Key[Array, ""] | None,
    ) -> Descent:
        """What `descend` was told.

        Raises:
            TypeError: the problem has no loss, or the optimiser needs what it is not given.
            ValueError: there can be no such batches, or they lack a key.
        """
        if not problem.has_loss:
            raise TypeError("descent needs a loss, and this problem is a vector field")
        if batch_size is not None and not isinstance(key, jax.Array):
            raise ValueError("batch_size needs a key to draw by; pass key=jax.random.key(0)")
        batches = None if batch_size is None else Batches.of(problem, batch_size)
        rate = jax.device_put(np.asarray(learning_rate, problem.dtype))
        descent = cls(problem.bare(), optimiser, rate, batches, key)
        try:
            carry = eqx.filter_eval_shape(start, descent, problem.params)
            eqx.filter_eval_shape(one_step, descent, problem.data, carry)
        except (TypeError, ValueError, KeyError) as error:
            said = str(error).strip().splitlines()
            raise TypeError(
                "the optimiser cannot take a step with what it is given, gradients, parameters "
                f"and the value of the loss: {said[0] if said else type(error).__name__}"
            ) from None
        return descent

    def first_memory(self, params: PyTree) -> PyTree:
        """The optimiser's own state before the first step."""
        with jax.numpy_dtype_promotion(_PROMOTION):
            return self._transformation().init(params)

    def change(
        self, gradient: PyTree, memory: PyTree, params: PyTree, loss: Float[Array, ""]
    ) -> tuple[PyTree, PyTree]:
        """The step that the optimiser takes, and its state after it."""
        with jax.numpy_dtype_promotion(_PROMOTION):
            return self._transformation().update(gradient, memory, params, value=loss)

    def _transformation(self) -> optax.GradientTransformationExtraArgs:
        made = self.optimiser
        if not isinstance(made, optax.GradientTransformation):
            made = made(self.learning_rate)
        if not isinstance(made, optax.GradientTransformation):
            raise TypeError(f"it is one of optax's or makes one; it made {type(made).__name__}")
        return optax.with_extra_args_support(made)

    def loss(self, params: PyTree, data: PyTree, step: Int[Array, ""]) -> Float[Array, ""]:
        """The loss that one step goes down."""
        if self.batches is None or self.key is None:
            return self.problem.loss(params, data)
        return self.batches.loss(self.problem, params, data, jax.random.fold_in(self.key, step))


class Carry(eqx.Module):
    """Everything that a descent goes on from.

    Attributes:
        step: how many were made.
        params: after them.
        memory: the optimiser's own state.
        finite: whether the last step began at a finite loss; at the end of a chunk of steps,
            whether the parameters are finite too.
    """

    step: Int[Array, ""]
    params: PyTree
    memory: PyTree
    finite: Bool[Array, ""]


@eqx.filter_jit
def start(descent: Descent, params: PyTree) -> Carry:
    """The carry before the first step."""
    return Carry(
        step=jnp.zeros((), jnp.int32),
        params=params,
        memory=descent.first_memory(params),
        finite=jnp.asarray(True),
    )


@eqx.filter_jit
def advance(descent: Descent, data: PyTree, until: Int[Array, ""], carry: Carry) -> Carry:
    """Go on to the step `until`, or until something is not finite.

    Nothing is donated: a chunk that ends where nothing is finite is made again from its start.
    """
    dynamic, static = eqx.partition(carry, eqx.is_array)

    def going(dynamic):
        carry = eqx.combine(dynamic, static)
        return (carry.step < until) & carry.finite

    def body(dynamic):
        return eqx.filter(one_step(descent, data, eqx.combine(dynamic, static)), eqx.is_array)

    after = eqx.combine(jax.lax.while_loop(going, body, dynamic), static)
    # Parameters can overflow well before the loss does, if it saturates.
    finite = after.finite & tree_finite(after.params)
    return eqx.tree_at(lambda c: c.finite, after, finite)


@eqx.filter_jit
def last_finite(
    descent: Descent, data: PyTree, until: Int[Array, ""], carry: Carry
) -> Int[Array, ""]:
    """The last step, of those from `carry` to `until`, up to which all is finite.

    Looks at parameters, loss and gradient after each of them.

    Returns:
        The step; the one before `carry` if there not everything is finite.
    """
    dynamic, static = eqx.partition(carry, eqx.is_array)

    def going(state):
        dynamic, finite = state
        return finite & (eqx.combine(dynamic, static).step <= until)

    def body(state):
        carry = eqx.combine(state[0], static)
        after, gradient = _step(descent, data, carry)
        finite = after.finite & tree_finite((gradient, carry.params))
        return eqx.filter(after, eqx.is_array), finite

    # Where it stops for what is not finite, that step was made before it was looked at.
    dynamic, finite = jax.lax.while_loop(going, body, (dynamic, jnp.asarray(True)))
    return eqx.combine(dynamic, static).step - jnp.where(finite, 1, 2).astype(jnp.int32)


def one_step(descent: Descent, data: PyTree, carry: Carry) -> Carry:
    """One step of the optimiser: one evaluation of the gradient.

    Nothing else passes over the parameters: an inner product for the energy identity would take a
    quarter of the time of a step at the sizes of small networks.
    """
    return _step(descent, data, carry)[0]


def _step(descent: Descent, data: PyTree, carry: Carry) -> tuple[Carry, PyTree]:
    """One step, and the gradient with which it was made."""
    loss, gradient = jax.value_and_grad(descent.loss)(carry.params, data, carry.step)
    change, memory = descent.change(gradient, carry.memory, carry.params, loss)
    after = Carry(
        step=carry.step + 1,
        params=optax.apply_updates(carry.params, change),
        memory=memory,
        finite=jnp.isfinite(loss),
    )
    return after, gradient
