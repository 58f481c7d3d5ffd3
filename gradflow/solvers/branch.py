"""A branch that stays one in a batch."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree


def only_if(wanted: Bool[Array, ""], compute: Callable[[], PyTree], otherwise: PyTree) -> PyTree:
    """What `compute` returns if it is wanted, else `otherwise`, of the same shapes and dtypes.

    A `jax.lax.cond` computes both branches for a whole batch, whoever wants them. A loop that is
    to begin for no run of the batch ends at once.
    """

    def loop() -> PyTree:
        def once(carry):
            return jnp.zeros_like(wanted), compute()

        return jax.lax.while_loop(lambda carry: carry[0], once, (wanted, otherwise))[1]

    # Outside of a batch the loop would have all that `compute` needs handed to it each time.
    return jax.lax.cond(wanted, loop, lambda: otherwise)
