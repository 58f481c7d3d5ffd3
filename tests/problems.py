"""Problems with known flows, for the tests."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from reference import logistic_scalar_flow, quadratic_flow, scalar_quartic_flow

import gradflow as gf


def flat(t, params, data):
    """All parameters in one vector: an observable."""
    leaves = jax.tree.leaves(eqx.filter(params, eqx.is_inexact_array))
    return jnp.concatenate([leaf.ravel() for leaf in leaves])


def relative_errors(found, exact, start):
    """The error of a trajectory at each time, relative to the distance travelled."""
    found, exact = np.atleast_2d(found), np.atleast_2d(exact)
    return np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact - start, axis=1)


def quadratic_loss(params, data):
    matrix, minimum = data
    offset = flat(0.0, params, data) - minimum
    return 0.5 * offset @ matrix @ offset


def quadratic(eigenvalues, seed=0):
    """A rotated quadratic over two leaves, and its exact flow as a function of time."""
    rng = np.random.default_rng(seed)
    n = len(eigenvalues)
    rotation = np.linalg.qr(rng.normal(size=(n, n)))[0]
    start, minimum = rng.normal(size=n), rng.normal(size=n)
    matrix = rotation @ np.diag(eigenvalues) @ rotation.T
    params = {"a": jnp.asarray(start[:2]), "b": jnp.asarray(start[2:])}
    problem = gf.Problem(quadratic_loss, params, (jnp.asarray(matrix), jnp.asarray(minimum)))
    eigenvalues = np.asarray(eigenvalues, dtype=float)
    return problem, start, lambda t: quadratic_flow(eigenvalues, rotation, start, minimum, t)


class Bowl:
    """A quadratic with its flow, its descent and that descent's modified flow."""

    def __init__(self, eigenvalues, seed=0):
        self.problem, self.start, self.flow = quadratic(eigenvalues, seed)
        matrix, self.minimum = map(np.asarray, self.problem.data)
        self.eigenvalues, self.basis = np.linalg.eigh(matrix)

    def at(self, factors):
        """The point whose coordinates along the eigenvectors have shrunk by these factors."""
        offset = self.basis.T @ (self.start - self.minimum)
        return self.minimum + (factors * offset) @ self.basis.T

    def descent(self, rate, step):
        return self.at((1 - rate * self.eigenvalues) ** step)

    def modified(self, rate, time):
        return self.at(np.exp(-self.eigenvalues * (1 + rate * self.eigenvalues / 2) * time))

    def loss(self, params):
        return self.eigenvalues @ (self.basis.T @ (params - self.minimum)) ** 2 / 2


def logistic_loss(params, data):
    return jax.nn.softplus(-params)


def logistic_scalar(start=-2.0):
    """log(1 + exp(-theta)), which has no minimiser, and its exact flow."""
    problem = gf.Problem(logistic_loss, jnp.asarray(start))
    return problem, np.array([start]), lambda t: logistic_scalar_flow(start, t)[:, None]


def quartic_loss(params, data):
    return 0.25 * params**4


def quartic_scalar(start=1.5):
    """theta^4 / 4, and its exact flow."""
    problem = gf.Problem(quartic_loss, jnp.asarray(start))
    return problem, np.array([start]), lambda t: scalar_quartic_flow(start, t)[:, None]
