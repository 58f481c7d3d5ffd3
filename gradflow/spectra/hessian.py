"""Observables of the Hessian: its largest eigenvalues, its trace, its spectral density."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import _spectral
from ..observables import Observable, Part, Snapshot
from ..problem import Problem
from ..save_times import Logarithmic, SaveTimes

SAVE = Logarithmic(count=20)

# How much of a random direction a warm start keeps: an eigenvector that the last ones do not
# hold, and that has come to the top since, has to be found from something.
_FRESH = 0.1

# On the way of a flow this finds the largest eigenvalues to a thousandth and mostly far better.
_STEPS, _STEPS_EACH = 10, 5


def sharpness(*, steps: int = _STEPS + _STEPS_EACH, save: SaveTimes = SAVE) -> Observable:
    """The largest eigenvalue of the Hessian: the variable ``sharpness``.

    ``sharpness_residual`` beside it is the norm of H y - sharpness y for its Ritz vector y; see
    `top_eigenvalues`, of which this is the case of one.

    Args:
        steps: Hessian-vector products for one value.
        save: when to record it.

    >>> import gradflow as gf
    >>> import optax
    >>> problem = gf.Problem(optax.l2_loss, 1.0, 0.0)  # L(w) = w^2 / 2
    >>> sharpness = gf.spectra.sharpness()
    >>> [part.name for part in sharpness.variables], sharpness.cost(problem)
    (['sharpness', 'sharpness_residual'], 2)
    """
    every = top_eigenvalues(1, steps=steps, save=save)
    assert isinstance(every.function, _TopEigenvalues)
    alone = replace(every.function, alone=True)
    return replace(every, name="sharpness", function=alone, parts=every.parts[:2])


def top_eigenvalues(k: int, *, steps: int | None = None, save: SaveTimes = SAVE) -> Observable:
    """The `k` largest eigenvalues of the Hessian, by Lanczos' method, and how well they are known.

    Beside ``sharpness`` and ``sharpness_residual`` this records ``hessian_eigenvalue`` and
    ``hessian_eigenvalue_residual`` over an axis ``eigenvalue`` from 1 for the largest to `k`.
    Within its residual of every value there is an eigenvalue of the Hessian. Where a residual
    is too large, raise `steps`. What a residual cannot say is whether an eigenvalue was missed:
    single vectors see those apart that are apart, and a cluster narrower than its residuals may
    be larger than it looks.

    At the first save time the method starts from a random direction, then from the sum of the
    Ritz vectors of the last time and a tenth of that direction. While it runs it holds `steps`
    copies of the parameters and a few more for the products, and one from each save time to the
    next: the whole run takes about 30 copies for the sharpness, where it takes 8 without.

    Args:
        k: how many.
        steps: Hessian-vector products for one set of values; 10 and 5 more for each eigenvalue
            unless given. No more are made than there are parameters.
        save: when to record them.

    Raises:
        ValueError: `k` is below 1 or `steps` below `k`; when solving, fewer than `k` parameters
            or a problem without a loss.

    >>> import gradflow as gf
    >>> largest = gf.spectra.top_eigenvalues(2)  # for `solve(..., observables=[largest])`
    >>> [part.name for part in largest.variables][2:], dict(largest.variables[2].axes)
    (['hessian_eigenvalue', 'hessian_eigenvalue_residual'], {'eigenvalue': (1, 2)})
    """
    steps = _STEPS + _STEPS_EACH * k if steps is None else steps
    check_at_least(1, k=k)
    check_at_least(k, steps=steps)
    axes = (("eigenvalue", tuple(range(1, k + 1))),)
    function = _TopEigenvalues(k, steps)
    return Observable(
        "hessian_eigenvalue",
        function,
        save=save,
        parts=(
            Part("sharpness", label="sharpness"),
            Part("sharpness_residual", label="residual of the sharpness"),
            Part("hessian_eigenvalue", axes, "Hessian eigenvalue"),
            Part("hessian_eigenvalue_residual", axes, "residual of the Hessian eigenvalue"),
        ),
        memory=_random_start,
        cost=function.cost,
    )


def trace(*, probes: int = 16, seed: int = 0, save: SaveTimes = SAVE) -> Observable:
    """The trace of the Hessian H, by Hutchinson's estimator.

    Records ``hessian_trace``, its ``hessian_trace_standard_error``, and ``effective_rank``, the
    number of directions in which there is curvature: (tr H)^2 / tr(H^2), which is r for r equal
    eigenvalues beside zeros. The probes are the same at all times, so that the series is smooth
    and its error mostly a common one.

    Args:
        probes: random vectors of signs, of one Hessian-vector product each.
        seed: of these vectors.
        save: when to record it.

    Raises:
        ValueError: fewer than two probes; when solving, a problem without a loss.

    >>> import gradflow as gf
    >>> import optax
    >>> trace = gf.spectra.trace(probes=16)  # for `solve(..., observables=[trace])`
    >>> trace.cost(gf.Problem(optax.l2_loss, 1.0, 0.0))  # a product with the Hessian counts as two
    32
    >>> [part.name for part in trace.variables]
    ['hessian_trace', 'hessian_trace_standard_error', 'effective_rank']
    """
    check_at_least(2, probes=probes)
    function = _Trace(probes, seed)
    return Observable(
        "hessian_trace",
        function,
        save=save,
        parts=(
            Part("hessian_trace", label="trace of the Hessian"),
            Part("hessian_trace_standard_error", label="standard error of the trace"),
            Part("effective_rank", label="effective rank of the Hessian"),
        ),
        cost=function.cost,
    )


def density(
    *, probes: int = 4, steps: int = 30, seed: int = 0, save: SaveTimes = SAVE
) -> Observable:
    """The spectral density of the Hessian, by stochastic Lanczos quadrature.

    Records ``spectral_density_node`` and ``spectral_density_weight`` over the axes ``probe`` and
    ``node``: for each random probe the nodes and weights of a Gauss rule, whose weights sum to
    one and whose moments up to 2 steps - 1 are those of the spectrum as the probe sees it
    (Golub & Welsch 1969; Ubaru, Chen & Saad 2017; for networks Ghorbani, Krishnan & Xiao 2019).
    `gradflow.analysis.smoothed_density` makes a curve of them. Where there are fewer parameters
    than `steps`, the nodes are the eigenvalues and the last entries are NaN.

    Args:
        probes: random vectors; one after the other, so that memory is for `steps` copies of the
            parameters only.
        steps: Hessian-vector products for each.
        seed: of these vectors.
        save: when to record it.

    Raises:
        ValueError: `probes` or `steps` below 1; when solving, a problem without a loss.

    >>> import gradflow as gf
    >>> density = gf.spectra.density(probes=2, steps=3)
    >>> [(part.name, [axis for axis, _ in part.axes]) for part in density.variables]
    [('spectral_density_node', ['probe', 'node']), ('spectral_density_weight', ['probe', 'node'])]
    """
    check_at_least(1, probes=probes, steps=steps)
    axes = (("probe", tuple(range(probes))), ("node", tuple(range(steps))))
    function = _Density(probes, steps, seed)
    return Observable(
        "spectral_density",
        function,
        save=save,
        parts=(
            Part("spectral_density_node", axes, "node of the spectral density"),
            Part("spectral_density_weight", axes, "weight of the spectral density"),
        ),
        cost=function.cost,
    )


@dataclass(frozen=True)
class _TopEigenvalues:
    """`alone` leaves out all but the sharpness and its residual."""

    k: int
    steps: int
    alone: bool = False

    def cost(self, problem: Problem) -> int:
        _check_loss(problem)
        if problem.size < self.k:
            raise ValueError(
                f"k = {self.k} Hessian eigenvalues, but the problem has {problem.size} "
                "parameters; ask for as many at most"
            )
        return 2 * min(self.steps, problem.size)

    def __call__(
        self, snapshot: Snapshot, start: Float[Array, " n"]
    ) -> tuple[tuple[Array, ...], Float[Array, " n"]]:
        noise = _random_start(snapshot)
        ritz = _spectral.lanczos(_hessian(snapshot), start, noise, min(self.steps, start.size))
        values, residuals = ritz.values[: self.k], ritz.residuals[: self.k]
        warm = _spectral.unit(ritz.sum(self.k)) + _FRESH * noise
        # A moment that is not finite is not to spoil those after it.
        following = jnp.where(jnp.all(jnp.isfinite(warm)), warm, start)
        parts = (values[0], residuals[0])
        return (parts if self.alone else (*parts, values, residuals)), following


@dataclass(frozen=True)
class _Trace:
    probes: int
    seed: int

    def cost(self, problem: Problem) -> int:
        _check_loss(problem)
        return 2 * self.probes

    def __call__(self, snapshot: Snapshot) -> tuple[Array, ...]:
        like, _ = ravel_pytree(snapshot.arrays)
        found = _spectral.trace(_hessian(snapshot), like, jax.random.key(self.seed), self.probes)
        return found.value, found.error, found.value**2 / found.square


@dataclass(frozen=True)
class _Density:
    probes: int
    steps: int
    seed: int

    def cost(self, problem: Problem) -> int:
        _check_loss(problem)
        return 2 * self.probes * min(self.steps, problem.size)

    def __call__(self, snapshot: Snapshot) -> tuple[Array, ...]:
        like, _ = ravel_pytree(snapshot.arrays)
        product, steps = _hessian(snapshot), min(self.steps, like.size)
        noise = _random_start(snapshot)

        def probe(key: Array) -> tuple[Array, Array]:
            ritz = _spectral.lanczos(product, _spectral.signs(key, like), noise, steps)
            missing = (0, self.steps - steps)
            return (
                jnp.pad(ritz.values, missing, constant_values=jnp.nan),
                jnp.pad(ritz.weights, missing, constant_values=jnp.nan),
            )

        return jax.lax.map(probe, jax.random.split(jax.random.key(self.seed), self.probes))


def _random_start(snapshot: Snapshot) -> Float[Array, " n"]:
    like, _ = ravel_pytree(snapshot.arrays)
    return _spectral.direction(jax.random.key(0), like)


def _hessian(snapshot: Snapshot) -> _spectral.Product:
    return _spectral.hessian(
        lambda params: snapshot.problem.loss(params, snapshot.data), snapshot.arrays
    )


def check_at_least(least: int, **numbers: int) -> None:
    """Refuse an argument below `least`, by its name."""
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name} = {number}; it must be at least {least}")


def _check_loss(problem: Problem) -> None:
    if not problem.has_loss:
        raise ValueError(
            "the spectrum is that of the Hessian of a loss, and this problem is a vector field"
        )
