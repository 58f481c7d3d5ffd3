"""extensisq's stabilised Runge-Kutta method for SciPy, on the jitted gradient."""

from __future__ import annotations

from dataclasses import replace

from .by_scipy import by_scipy
from .method import DECADES, Method, Run
from .setting import Setting

NEEDS = ("extensisq",)


def _run(setting: Setting, rtol: float) -> Run:
    from extensisq import SSV2stab
    from extensisq.sommeijer import nrejct

    found = by_scipy(SSV2stab, hessian=False)(setting, rtol)
    return replace(found, rejected=int(nrejct))


METHODS = (Method("extensisq SSV2stab", _run, DECADES),)
