"""The methods of optimistix that need no second derivatives: BFGS and Levenberg-Marquardt's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Float, Int

from .landscape import Landscape

Reached = tuple[Float[Array, " n"], Int[Array, ""]]


@eqx.filter_jit
def bfgs(
    landscape: Landscape,
    x: Float[Array, " n"],
    gradient_norm: float,
    max_steps: int,
) -> Reached:
    """Where the BFGS method gets from `x`, and the steps tried, of a gradient evaluation each."""
    solver = optimistix.BFGS(rtol=_rounding(x), atol=0.0, norm=optimistix.two_norm)
    return _descend(solver, landscape.loss, lambda i: i.grad, x, gradient_norm, max_steps)


@eqx.filter_jit
def levenberg_marquardt(
    landscape: Landscape,
    x: Float[Array, " n"],
    gradient_norm: float,
    max_steps: int,
) -> Reached:
    """The same by the method of Levenberg and Marquardt, on the residuals of the samples.

    Each step costs one gradient evaluation and one for each parameter, by which the Jacobian of
    the residuals is formed.
    """
    solver = optimistix.LevenbergMarquardt(rtol=_rounding(x), atol=0.0, norm=optimistix.two_norm)
    gradient = optimistix.FunctionInfo.ResidualJac.compute_grad
    return _descend(solver, landscape.residuals, gradient, x, gradient_norm, max_steps)


def _rounding(x: Float[Array, " n"]) -> float:
    return float(jnp.finfo(x.dtype).eps)


def _descend(
    solver: Any,
    function: Callable[[Array], Array],
    gradient: Callable[[Any], Array],
    x: Float[Array, " n"],
    gradient_norm: float,
    max_steps: int,
) -> Reached:
    """Take steps until `gradient_norm` is reached, or until values of the loss tell no more.

    Not `optimistix.minimise`, which does not look at the gradient, nor ends where its search for
    a shorter step never succeeds.
    """
    tags = frozenset()

    def with_nothing(y: Array, args: None):
        return function(y), None

    struct = jax.eval_shape(function, x)
    begin = solver.init(with_nothing, x, None, {}, struct, None, tags)
    arrays, others = eqx.partition(begin, eqx.is_array)

    def unfinished(carry):
        _, arrays, steps = carry
        state = eqx.combine(arrays, others)
        moving = ~state.terminate & (state.search_state.step_size > _rounding(x))
        norm = jnp.linalg.norm(gradient(state.f_info))
        return moving & (state.first_step | (norm > gradient_norm)) & (steps < max_steps)

    def advance(carry):
        y, arrays, steps = carry
        y, state, _ = solver.step(with_nothing, y, None, {}, eqx.combine(arrays, others), tags)
        return y, eqx.filter(state, eqx.is_array), steps + 1

    x, _, steps = jax.lax.while_loop(unfinished, advance, (x, arrays, jnp.zeros((), jnp.int32)))
    return x, steps


LIBRARY = {"bfgs": bfgs, "levenberg-marquardt": levenberg_marquardt}
