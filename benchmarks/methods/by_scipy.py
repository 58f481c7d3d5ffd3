"""SciPy on the jitted gradient."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from scipy.integrate import BDF, DOP853, LSODA, OdeSolver, solve_ivp

from .method import DECADES, DENSE, Method, Run, RunFailedError
from .setting import Setting


def by_scipy(method: type[OdeSolver], *, hessian: bool) -> Callable[[Setting, float], Run]:
    """`scipy.integrate.solve_ivp` on the jitted gradient of the flattened state.

    The absolute tolerance is a thousandth of the relative one, as by SciPy's defaults.

    Args:
        method: SciPy's or anyone's.
        hessian: whether it is given the dense Hessian, which counts as a Hessian-vector product
            for each parameter.
    """

    def run(setting: Setting, rtol: float) -> Run:
        count = 0

        def slope(t: float, y: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 1
            return -setting.gradient(y)

        def jacobian(t: float, y: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 2 * y.size
            return -setting.hessian(y)

        options = {"jac": jacobian} if hessian else {}
        for function in (slope, *options.values()):
            function(0.0, setting.start)
        count = 0
        began = time.perf_counter()
        solution = solve_ivp(
            slope,
            (0.0, setting.case.t1),
            setting.start,
            method,
            setting.times,
            rtol=rtol,
            atol=1e-3 * rtol,
            **options,
        )
        seconds = time.perf_counter() - began
        if not solution.success:
            raise RunFailedError(solution.message)
        return Run(solution.y.T, count, seconds)

    return run


METHODS = (
    Method("SciPy LSODA", by_scipy(LSODA, hessian=True), DECADES, largest=DENSE),
    Method("SciPy BDF", by_scipy(BDF, hessian=True), DECADES, largest=DENSE),
    Method("SciPy DOP853", by_scipy(DOP853, hessian=False), DECADES, stiff_rungs=DECADES[1::2]),
)
