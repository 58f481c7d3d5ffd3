"""Observables of the samples' gradients and of the parameters' arrays."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .. import _spectral
from .._linalg import tree_dot, tree_norm
from ..observables import Observable, Part, Snapshot
from ..problem import Problem
from ..save_times import SaveTimes
from .hessian import SAVE, check_at_least


def gradient_noise(*, probes: int = 16, seed: int = 0, save: SaveTimes = SAVE) -> Observable:
    """The trace of the covariance of the samples' gradients, of a problem with a `sample_loss`.

    Records ``gradient_noise``, the mean over the n samples of |g_i - g|^2 for their gradients
    g_i of mean g; its ``gradient_noise_standard_error``; and ``gradient_noise_scale``, divided
    by |g|^2: the batch size at which noise and gradient are equally large (McCandlish, Kaplan,
    Amodei et al. 2018, Equation 2.9).

    No sample's gradient is formed. For independent signs s_i the mean of
    |sum_i s_i (g_i - g)|^2 is the sum of the |g_i - g|^2, and a weighted sum of gradients is one
    gradient evaluation.

    Args:
        probes: random vectors of signs, of one gradient evaluation each; one more is for g.
        seed: of these vectors.
        save: when to record it.

    Raises:
        ValueError: fewer than two probes; when solving, a problem without a `sample_loss`.

    >>> import gradflow as gf
    >>> noise = gf.spectra.gradient_noise(probes=4)
    >>> [part.name for part in noise.variables]
    ['gradient_noise', 'gradient_noise_standard_error', 'gradient_noise_scale']
    """
    check_at_least(2, probes=probes)
    function = _GradientNoise(probes, seed)
    return Observable(
        "gradient_noise",
        function,
        save=save,
        parts=(
            Part("gradient_noise", label="gradient noise"),
            Part("gradient_noise_standard_error", label="standard error of the gradient noise"),
            Part("gradient_noise_scale", label="gradient noise scale"),
        ),
        cost=function.cost,
    )


def block_norms(problem: Problem, *, save: SaveTimes | None = None) -> Observable:
    """The Euclidean norm of every array of the parameters: the variable ``block_norm``.

    Args:
        problem: what is solved; its parameters name the labels of the axis ``block``.
        save: when to record them, if not whenever the run records: they cost no gradient.

    Returns:
        The observable; its values are of shape ``(blocks,)``.

    >>> import gradflow as gf
    >>> import jax.numpy as jnp
    >>> params = {"v": jnp.ones(2), "w": jnp.ones((2, 3))}
    >>> problem = gf.Problem(lambda p, data: jnp.sum(p["w"] ** 2), params)
    >>> gf.spectra.block_norms(problem).axes
    (('block', ('v', 'w')),)
    """
    leaves = jax.tree_util.tree_leaves_with_path(problem.params)
    names = (jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves)
    blocks = tuple(name or "params" for name in names)
    return Observable(
        "block_norm", _block_norms, (("block", blocks),), "norm of a block", "1", save
    )


@dataclass(frozen=True)
class _GradientNoise:
    probes: int
    seed: int

    def cost(self, problem: Problem) -> int:
        if not problem.has_samples:
            raise ValueError(
                "the gradient noise is that of samples, and this problem has no sample_loss; "
                "pass the loss as sample_loss=, one value for each sample"
            )
        return self.probes + 1

    def __call__(self, snapshot: Snapshot) -> tuple[Array, ...]:
        problem, data = snapshot.problem, snapshot.data
        losses, pull_back = jax.vjp(lambda p: problem.sample_losses(p, data), snapshot.arrays)
        (gradient,) = pull_back(jnp.full_like(losses, 1 / losses.size))

        def probe(key: Array) -> Array:
            signs = _spectral.signs(key, losses)
            (sum_,) = pull_back(signs - jnp.mean(signs))
            return tree_dot(sum_, sum_) / losses.size

        squares = jax.lax.map(probe, jax.random.split(jax.random.key(self.seed), self.probes))
        mean, error = _spectral.mean_and_error(squares)
        return mean, error, mean / tree_dot(gradient, gradient)


def _block_norms(snapshot: Snapshot) -> Array:
    return jnp.stack([tree_norm(leaf) for leaf in jax.tree.leaves(snapshot.arrays)])
