"""RKL2, the Runge-Kutta-Legendre method."""

from __future__ import annotations

from typing import Any

from .stabilised import StabilisedRungeKutta


class RKL2(StabilisedRungeKutta):
    """The Runge-Kutta-Legendre method of second order.

    On Legendre polynomials, which fall off inside of [-1, 1] by themselves: with s stages stable
    for step * radius up to (s^2 + s - 2) / 2, so a tenth more evaluations than `RKC2` takes, and
    stiff components die out sooner.

    Source: Meyer, Balsara & Aslam, A stabilized Runge-Kutta-Legendre method for explicit
    super-time-stepping of parabolic and mixed equations, J. Comput. Phys. 257 (2014), Section 2.2.

    >>> import gradflow as gf
    >>> interval = gf.solvers.RKL2().coefficients.interval  # of 2, 3, 4, ... stages
    >>> interval[:3].round(6)  # (s^2 + s - 2) / 2
    array([2., 5., 9.])
    """

    @staticmethod
    def beta(j) -> Any:
        """P_j = (2 j - 1) / j x P_{j-1} - (j - 1) / j P_{j-2} (Bonnet)."""
        return (j - 1) / j

    @property
    def damping(self) -> float:
        """None: the polynomials damp enough."""
        return 0.0
