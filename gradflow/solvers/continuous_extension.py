"""Dense output of implicit Runge-Kutta methods, from their order conditions."""

from __future__ import annotations

import numpy as np
from diffrax import ButcherTableau

_DEGREE = 4


def continuous_extension(tableau: ButcherTableau) -> np.ndarray:
    """Weights b_i(s) of y(t0 + s h) = y0 + h sum_i b_i(s) f_i, smooth across steps.

    A quartic of fourth order at every s where the stages allow one, as those of Kvaerno's 5/4
    method do: of all that meet the order conditions (Hairer, Nørsett & Wanner 1993, II.6, eq. 6.4)
    and have the step's value and slopes at its ends, the one with the smallest coefficients. Else
    the cubic Hermite interpolant, of third order, in whose error long steps would be lost.

    Args:
        tableau: an ESDIRK method whose last stage is the end of the step.

    Returns:
        Row i holds the coefficients of s, s^2, ... in b_i; shape ``(stages, degree)``.
    """
    stages, b = tableau.num_stages, tableau.b_sol
    unit = np.eye(stages)
    powers = np.arange(1, _DEGREE + 1)
    conditions, values = [], []
    # b(s) = sum_p B_p s^p: what an order condition asks of b(s) it asks of each B_p.
    for weights, order, density in _order_conditions(tableau):
        for p in powers:
            conditions.append(np.outer(powers == p, weights))
            values.append((p == order) / density)
    for i in range(stages):
        ends = ((np.ones(_DEGREE), b[i]), (powers == 1, unit[0, i]), (powers, unit[-1, i]))
        for coefficients, value in ends:
            conditions.append(np.outer(coefficients, unit[i]))
            values.append(value)
    matrix = np.stack([condition.ravel() for condition in conditions])
    found = np.linalg.lstsq(matrix, values, rcond=1e-8)[0]
    if np.abs(matrix @ found - values).max() < 1e-8:
        return found.reshape(_DEGREE, stages).T
    first, last = unit[0], unit[-1]
    return np.stack([first, 3 * b - 2 * first - last, first + last - 2 * b], axis=1)


def _order_conditions(tableau: ButcherTableau) -> list[tuple[np.ndarray, int, int]]:
    """The conditions b . weights = 1 / density for orders one to four."""
    assert tableau.a_diagonal is not None
    a = np.diag(tableau.a_diagonal)
    for i, row in enumerate(tableau.a_lower, 1):
        a[i, :i] = row
    c = np.append(0.0, tableau.c)
    return [
        (np.ones_like(c), 1, 1),
        (c, 2, 2),
        (c**2, 3, 3),
        (a @ c, 3, 6),
        (c**3, 4, 4),
        (c * (a @ c), 4, 8),
        (a @ c**2, 4, 12),
        (a @ a @ c, 4, 24),
    ]
