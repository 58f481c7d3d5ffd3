"""The compiled loop for many runs at once.

Each takes the steps that it takes alone, but for rounding. They go in lockstep: an attempt lasts
as long as that of the run whose inner loops are longest, and a run that has ended is computed on,
for nothing, until the batch comes back to the host.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .compiling import LEAN, ONCE
from .stepping import END_TIME, Carry, Kept, go_on


@eqx.filter_jit(donate="all-except-first", compiler_options=LEAN)  # pyright: ignore[reportCallIssue]
def advance_all(kept: tuple[Kept, Array], carries: Carry) -> Carry:
    """Attempt up to `attempts` further steps of every run of a batch.

    Args:
        kept: what stays as it is, every array with an axis of runs first; and `attempts`.
        carries: where to go on from, every array with that axis; its buffers are reused.
    """
    each = eqx.if_array(0)
    return eqx.filter_vmap(go_on, in_axes=(each, None, each))(*kept, carries)


@eqx.filter_jit(compiler_options=ONCE)  # pyright: ignore[reportCallIssue]
def copies(kept: Kept, carry: Carry, size: int) -> tuple[Kept, Carry]:
    """A batch of `size` copies of one run, none of which goes on.

    They are there to be replaced; until then, numbers to compute with that do no harm.
    """
    over = eqx.tree_at(lambda c: c.outcome, carry, jnp.full_like(carry.outcome, END_TIME))
    return jax.tree.map(
        lambda x: jnp.broadcast_to(x, (size, *x.shape)) if eqx.is_array(x) else x, (kept, over)
    )


@eqx.filter_jit(donate="all-except-first")
def put(run: tuple[Kept, Carry, Array], batch: tuple[Kept, Carry]) -> tuple[Kept, Carry]:
    """The batch, whose buffers are reused, with a run in place of that of a given index."""
    *one, index = run
    return jax.tree.map(
        lambda x, xs: xs.at[index].set(x) if eqx.is_array(x) else xs, tuple(one), batch
    )


@eqx.filter_jit
def get(carries: Carry, index: Array) -> Carry:
    """The carry of one run of a batch."""
    return jax.tree.map(lambda xs: xs[index] if eqx.is_array(xs) else xs, carries)
