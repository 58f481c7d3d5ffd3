"""Minibatches: a few samples, drawn anew for each step."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from ..problem import Problem


class Batches(eqx.Module):
    """Draws samples without replacement, for each step independently.

    Attributes:
        size: of a batch.
        count: samples in all.
        slices: whether the loss of a batch is evaluated on its own samples' data. Otherwise it is
            picked from the losses of all samples, which is as dear as a full gradient.
    """

    size: int = eqx.field(static=True)
    count: int = eqx.field(static=True)
    slices: bool = eqx.field(static=True)

    @classmethod
    def of(cls, problem: Problem, size: int) -> Batches:
        """Batches of `size` samples.

        Which axes of the data run over samples nobody says: those leaves whose first axis is as
        long as the number of samples are sliced, if that gives the samples' own losses.

        Raises:
            TypeError: the problem was not given sample by sample.
            ValueError: fewer than one sample, or more than there are.
        """
        if not problem.has_samples:
            raise TypeError(
                "batch_size needs the loss of each sample, and this problem has no sample_loss; "
                "pass the loss as sample_loss=, one value for each sample"
            )
        losses = jax.eval_shape(problem.sample_losses, problem.params, problem.data)
        count = losses.shape[0]
        if not hasattr(size, "__index__") or not 1 <= size <= count:
            raise ValueError(
                f"batch_size = {size}; allowed: from 1 to the number of samples, {count}"
            )
        return cls(size, count, _can_slice(problem, count, size))

    def loss(
        self, problem: Problem, params: PyTree, data: PyTree, key: Key[Array, ""]
    ) -> Float[Array, ""]:
        """The mean loss of one batch."""
        chosen = jax.random.choice(key, self.count, (self.size,), replace=False)
        if self.slices:
            return jnp.mean(problem.sample_losses(params, _sliced(data, self.count, chosen)))
        return jnp.mean(problem.sample_losses(params, data)[chosen])


def _sliced(data: PyTree, count: int, chosen: Array) -> PyTree:
    return jax.tree.map(
        lambda x: x[chosen] if eqx.is_array(x) and x.shape[:1] == (count,) else x, data
    )


def _can_slice(problem: Problem, count: int, size: int) -> bool:
    """Whether the losses of sliced data are the losses of its samples: tried.

    At the start, and a little away from it: where all weights are zero, so is every difference.
    """
    rng = np.random.default_rng(0)
    chosen = jnp.asarray(rng.permutation(count)[:size])
    flat, unravel = ravel_pytree(problem.params)
    away = rng.normal(scale=0.1 * (1 + float(jnp.std(flat))), size=flat.shape)
    data, losses = problem.data, eqx.filter_jit(problem.sample_losses)
    rounding = 100 * float(jnp.finfo(problem.dtype).eps)
    for params in (problem.params, unravel(flat + jnp.asarray(away, flat.dtype))):
        whole = np.asarray(losses(params, data)[chosen])
        try:
            sliced = losses(params, _sliced(data, count, chosen))
        except (TypeError, ValueError, IndexError):  # shapes that do not fit together
            return False
        largest = float(np.max(np.abs(whole)))
        if sliced.shape != (size,) or not np.allclose(
            sliced, whole, rtol=rounding, atol=rounding * largest, equal_nan=True
        ):
            return False
    return True
