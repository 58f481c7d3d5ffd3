"""Explicit Runge-Kutta methods with their stages unrolled over the pytree.

diffrax stacks the stages of a step into one array and contracts it with a row of the tableau,
zeros included. At the sizes of small networks that costs more than the gradient itself. Here
every stage is one fused sum over the leaves, and the tableau's zeros are never touched.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from diffrax import AbstractERK, ODETerm
from jaxtyping import Array, Float, Int, PyTree

from .._linalg import tree_sub


def vector_field(terms: diffrax.AbstractTerm, t, y: PyTree, args: PyTree) -> PyTree:
    """dy/dt, also where `diffrax.diffeqsolve` runs time backwards behind the solver's back."""
    if isinstance(terms, ODETerm):
        return terms.vf(t, y, args)
    return terms.vf_prod(t, y, args, terms.contr(t, t + 1))


class StageInterpolation(diffrax.AbstractLocalInterpolation):
    """Dense output y(t0 + s h) = y0 + h sum_i b_i(s) f_i with polynomial weights b_i.

    Attributes:
        weights: row i holds the coefficients of s, s^2, ... in b_i; shape ``(stages, degree)``.
    """

    t0: Any
    t1: Any
    y0: PyTree
    slopes: tuple[PyTree, ...]
    weights: np.ndarray

    def evaluate(self, t0, t1=None, left: bool = True) -> PyTree:
        """The state at `t0`, or its increment from `t0` to `t1`."""
        del left
        if t1 is not None:
            return tree_sub(self.evaluate(t1), self.evaluate(t0))
        h = self.t1 - self.t0
        s = (t0 - self.t0) / h
        powers = [s**i for i in range(1, self.weights.shape[1] + 1)]
        return _combine(self.y0, h, self._at(powers), self.slopes)

    def derivative(self, t, left: bool = True) -> PyTree:
        """The time derivative of the dense output at `t`."""
        del left
        s = (t - self.t0) / (self.t1 - self.t0)
        weights = self._at([i * s ** (i - 1) for i in range(1, self.weights.shape[1] + 1)])
        return jax.tree.map(lambda *fs: _dot(weights, fs), *self.slopes)

    def _at(self, powers: Sequence[Float[Array, ""]]) -> list[Float[Array, ""]]:
        column = jnp.stack(powers)
        return list(jnp.asarray(self.weights, column.dtype) @ column)


class UnrolledRungeKutta(diffrax.AbstractAdaptiveSolver):
    """An explicit Runge-Kutta method of diffrax, for ODEs, with unrolled stages.

    Gives the numbers that `method` gives, to rounding. F(y) at the end of a step is always
    carried to the next, also where the tableau has no such stage: one more evaluation then buys
    cubic Hermite dense output and a rejected step that need not evaluate its start again.

    Attributes:
        method: any explicit Runge-Kutta method of diffrax, e.g. ``diffrax.Tsit5()``.

    >>> import diffrax
    >>> import gradflow as gf
    >>> solver = gf.solvers.UnrolledRungeKutta(diffrax.Bosh3())
    >>> solver.step_evaluations, round(solver.stability_limit, 2)  # |1 + z + z^2/2 + z^3/6| = 1
    (3, 2.51)
    """

    method: AbstractERK = eqx.field(static=True)

    term_structure = diffrax.AbstractTerm

    @property
    def tableau(self) -> diffrax.ButcherTableau:
        """The method's coefficients."""
        return cast(diffrax.ButcherTableau, self.method.tableau)

    @property
    def interpolation_cls(self):
        """Makes the dense output of a step."""
        weights = dense_weights(self.method)
        return lambda *, t0, t1, y0, slopes: StageInterpolation(t0, t1, y0, slopes, weights)

    @property
    def step_evaluations(self) -> int:
        """Evaluations of the vector field in one attempted step."""
        return len(self.tableau.a_lower) + (not self.tableau.fsal)

    @property
    def stability_limit(self) -> float:
        """The method is stable for eigenvalues times step from this, with a minus, to zero."""
        return _real_stability(self.method)

    def evaluations(self, solver_state: PyTree) -> Int[Array, ""]:
        """Evaluations of the vector field in the last attempted step: always the same."""
        del solver_state
        return jnp.asarray(self.step_evaluations, jnp.int32)

    def order(self, terms) -> int | None:
        """The order of the method."""
        return self.method.order(terms)

    def func(self, terms: diffrax.AbstractTerm, t0, y0: PyTree, args) -> PyTree:
        """The vector field at one point."""
        return vector_field(terms, t0, y0, args)

    def init(self, terms: diffrax.AbstractTerm, t0, t1, y0: PyTree, args) -> PyTree:
        """The vector field at the start, with which the first step begins."""
        del t1
        return vector_field(terms, t0, y0, args)

    def step(
        self, terms: diffrax.AbstractTerm, t0, t1, y0: PyTree, args, solver_state: PyTree, made_jump
    ):
        """One step; see `diffrax.AbstractSolver.step`."""
        tableau = self.tableau
        f0 = solver_state
        if made_jump is not False:
            f0 = jax.lax.cond(
                made_jump, lambda: vector_field(terms, t0, y0, args), lambda: solver_state
            )
        h = t1 - t0
        slopes = [f0]
        y1 = y0
        for row, c in zip(tableau.a_lower, tableau.c, strict=True):
            y1 = _combine(y0, h, row, slopes)
            slopes.append(vector_field(terms, t1 if c == 1 else t0 + float(c) * h, y1, args))
        if not tableau.fsal:
            y1 = _combine(y0, h, tableau.b_sol, slopes)
            slopes.append(vector_field(terms, t1, y1, args))
        stages = tableau.num_stages
        error = jax.tree.map(lambda *fs: h * _dot(tableau.b_error, fs[:stages]), *slopes)
        dense = {"y0": y0, "slopes": tuple(slopes)}
        return y1, error, dense, slopes[-1], diffrax.RESULTS.successful


def _combine(y0: PyTree, h, weights, slopes) -> PyTree:
    """y0 + h sum_i weights_i slopes_i; the increment is summed first, to keep its digits."""
    return jax.tree.map(lambda y, *fs: y + h * _dot(weights, fs), y0, *slopes)


def _dot(weights, values) -> Any:
    """The weighted sum; weights known to be zero cost nothing."""
    total = None
    for weight, value in zip(weights, values, strict=True):
        if isinstance(weight, float) and weight == 0:
            continue
        term = (float(weight) if isinstance(weight, float) else weight) * value
        total = term if total is None else total + term
    return total


def dense_weights(method: AbstractERK) -> np.ndarray:
    """The weights of `method`'s dense output, shape ``(stages, degree)``.

    diffrax's own continuous extension where the method has one of its own, else the cubic
    Hermite interpolant, for which a last stage F(y1) is added where the tableau has none.
    """
    tableau = cast(diffrax.ButcherTableau, method.tableau)
    extension: Any = method.interpolation_cls
    if isinstance(method, diffrax.Tsit5):
        return _TSIT5
    if hasattr(extension, "eval_coeffs"):  # Dopri8: highest power first, a factor s left out
        return np.asarray(extension.eval_coeffs)[:, ::-1]
    b = np.append(tableau.b_sol, [0.0] * (not tableau.fsal))
    first, last = np.eye(len(b))[0], np.eye(len(b))[-1]
    if hasattr(extension, "c_mid"):  # Dopri5: the quartic through y(1/2) and both slopes
        middle = np.asarray(extension.c_mid)
        return np.stack(
            [
                first,
                last - 4 * first - 5 * b + 16 * middle,
                5 * first - 3 * last + 14 * b - 32 * middle,
                2 * (last - first) - 8 * b + 16 * middle,
            ],
            axis=1,
        )
    return np.stack([first, 3 * b - 2 * first - last, first + last - 2 * b], axis=1)


@functools.lru_cache
def _real_stability(method: AbstractERK) -> float:
    """Where the stability polynomial 1 + z b^T (1 - z A)^-1 1 first leaves [-1, 1] for z < 0."""
    tableau = cast(diffrax.ButcherTableau, method.tableau)
    stages = tableau.num_stages
    a = np.zeros((stages, stages))
    for i, row in enumerate(tableau.a_lower):
        a[i + 1, : i + 1] = row
    # The coefficients b^T A^k 1 of z^(k + 1).
    powers = [np.ones(stages)]
    for _ in range(stages - 1):
        powers.append(a @ powers[-1])
    coefficients = np.array([1.0, *(tableau.b_sol @ p for p in powers)])
    crossings = []
    for level in (1.0, -1.0):
        shifted = coefficients.copy()
        shifted[0] -= level
        roots = np.roots(np.trim_zeros(np.where(abs(shifted) < 1e-12, 0, shifted), "b")[::-1])
        real = roots[abs(roots.imag) < 1e-8].real
        crossings += list(real[real < -1e-6])
    return float(-max(crossings))


def _polynomial(scale: float, *factors: list[float]) -> np.ndarray:
    """Coefficients of s ... s^4 of scale times the product of `factors`, highest power first."""
    product = np.array([scale])
    for factor in factors:
        product = np.polymul(product, factor)
    return np.pad(product[::-1], (0, 5 - len(product)))[1:]


# The free fourth-order interpolant of Tsitouras (2011), Section 3.
_SQUARE = [1.0, 0.0, 0.0]
_TSIT5 = np.stack(
    [
        _polynomial(
            -1.0530884977290216,
            [1.0, 0.0],
            [1.0, -1.3299890189751412],
            [1.0, -1.4364028541716351, 0.7139816917074209],
        ),
        _polynomial(0.1017, _SQUARE, [1.0, -2.1966568338249754, 1.2949852507374631]),
        _polynomial(
            2.490627285651252793, _SQUARE, [1.0, -2.38535645472061657, 1.57803468208092486]
        ),
        _polynomial(
            -16.54810288924490272, _SQUARE, [1.0, -1.21712927295533244], [1.0, -0.61620406037800089]
        ),
        _polynomial(
            47.37952196281928122,
            _SQUARE,
            [1.0, -1.203071208372362603],
            [1.0, -0.658047292653547382],
        ),
        _polynomial(-34.87065786149660974, _SQUARE, [1.0, -1.2], [1.0, -0.666666666666666667]),
        _polynomial(2.5, _SQUARE, [1.0, -1.0], [1.0, -0.6]),
    ]
)
