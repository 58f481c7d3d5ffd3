"""RKC2, the Runge-Kutta-Chebyshev method."""

from __future__ import annotations

from typing import Any

from .stabilised import StabilisedRungeKutta


class RKC2(StabilisedRungeKutta):
    """The Runge-Kutta-Chebyshev method of second order.

    On Chebyshev polynomials of the first kind: with s stages stable for step * radius up to about
    0.65 s^2, 81 % of the most that second order allows. The damping holds the stability
    polynomial below 0.95 inside, so that no stiff component is carried along.

    Source: Sommeijer, Shampine & Verwer, RKC: an explicit solver for parabolic PDEs, J. Comput.
    Appl. Math. 88 (1997), Section 2.

    >>> import diffrax, jax.numpy as jnp
    >>> import gradflow as gf
    >>> solution = diffrax.diffeqsolve(
    ...     diffrax.ODETerm(lambda t, y, args: -1e4 * (y - 2.0)),
    ...     gf.solvers.RKC2(), t0=0.0, t1=1.0, dt0=None, y0=jnp.zeros(3),
    ...     stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-4),
    ... )
    >>> solution.ys[-1].round(3).tolist()
    [2.0, 2.0, 2.0]
    """

    @staticmethod
    def beta(j) -> Any:
        """T_j = 2 x T_{j-1} - T_{j-2}."""
        return 1 + 0 * j

    @property
    def damping(self) -> float:
        """The value that its authors recommend."""
        return 2 / 13
