"""Estimates of the spectral radius against exact eigenvalues."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import quadratic

import gradflow as gf
from gradflow.solvers import RKC2, LanczosRadius, PowerIteration
from gradflow.solvers.controller import whole_state
from gradflow.solvers.spectral_radius import Point


def point(eigenvalues, seed=0):
    """A place of a linear vector field over two leaves with a rotated symmetric Jacobian."""
    rng = np.random.default_rng(seed)
    n = len(eigenvalues)
    rotation = np.linalg.qr(rng.normal(size=(n, n)))[0]
    matrix = jnp.asarray(-rotation @ np.diag(eigenvalues) @ rotation.T)

    def field(t, y, args):
        image = matrix @ jnp.concatenate([y["a"], y["b"]])
        return {"a": image[:3], "b": image[3:]}

    y = {"a": jnp.asarray(rng.normal(size=3)), "b": jnp.asarray(rng.normal(size=n - 3))}
    zero = jnp.asarray(0.0)
    return Point.of(diffrax.ODETerm(field), zero, y, field(zero, y, None), None, whole_state)


SPECTRA = {
    "separated": np.geomspace(1e-3, 500.0, 30),
    "clustered": np.concatenate([np.linspace(0, 1, 20), np.linspace(95, 100, 10)]),
    "indefinite": np.concatenate([np.linspace(0, 1, 20), [-80.0, 3.0]]),
}


@pytest.mark.parametrize("estimator", [PowerIteration(), LanczosRadius()], ids=["power", "lanczos"])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_against_exact_eigenvalues(estimator, spectrum):
    """Above the largest |eigenvalue|, and not by more than the safety factor asks for."""
    eigenvalues = SPECTRA[spectrum]
    exact = np.max(np.abs(eigenvalues))
    where = point(eigenvalues)
    radius, memory, first = estimator.estimate(where, estimator.init(where.part))
    again, _, second = estimator.estimate(where, memory)
    assert 0.99 * exact <= radius <= 1.5 * exact
    assert 1.0 * exact <= again <= 1.15 * exact
    assert second <= first
    if isinstance(estimator, PowerIteration):
        assert second == 1  # the direction still holds


def test_lanczos_is_a_solver_s_estimator():
    """The same flow as with power iteration, to the tolerance."""
    problem, _, _ = quadratic([300.0, 299.0, 1.0, 0.1])
    ends = [
        gf.solve(problem, t1=5.0, rtol=1e-4, solver=RKC2(estimator))
        for estimator in (PowerIteration(), LanczosRadius())
    ]
    for one, other in zip(*(jax.tree.leaves(flow.final_params) for flow in ends), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    assert all(flow.stats["rejected"] <= 2 for flow in ends)


def test_safety_below_one_is_refused():
    with pytest.raises(ValueError, match=r"safety = 0.5 is below one"):
        PowerIteration(safety=0.5)
