"""torchdiffeq as its documentation has it, on a copy of the problem in PyTorch, on the CPU."""

from __future__ import annotations

import time

from .method import DECADES, WARMING, Method, Run, RunFailedError
from .setting import Setting

NEEDS = ("torch", "torchdiffeq")  # imported where they are used: that takes seconds


def _run(setting: Setting, rtol: float) -> Run:
    """`torchdiffeq.odeint` with ``rtol`` and ``atol=rtol``, its default norm and no adjoint."""
    import torch
    from torchdiffeq import odeint

    from .torch_copies import Copy

    copy = Copy.of(setting.problem)
    start, times = copy.start(), torch.from_numpy(setting.times)
    count = 0

    def slope(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        if count > setting.patience:
            raise RunFailedError(f"it took more than {setting.patience:,} gradients")
        return -copy.gradient(y)

    def integrate(share: float) -> torch.Tensor:
        with torch.no_grad():
            return odeint(slope, start, share * times, rtol=rtol, atol=rtol, method="dopri5")

    integrate(WARMING)
    count = 0
    began = time.perf_counter()
    try:
        states = integrate(1.0)
    except AssertionError as error:  # of a step below rounding, or of a state that is not finite
        raise RunFailedError(str(error)) from None
    return Run(states.numpy(), count, time.perf_counter() - began)


METHODS = (Method("torchdiffeq dopri5", _run, DECADES, stiff_rungs=DECADES[1::2]),)
