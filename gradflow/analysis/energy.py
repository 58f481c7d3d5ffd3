"""The energy identity: what a gradient flow loses is what it dissipates."""

from __future__ import annotations

import numpy as np


def energy_residual(loss: np.ndarray, dissipated: np.ndarray) -> np.ndarray:
    """(L(0) - L(t) - integral of |grad L|^2) / (L(0) - L(t)) at each time.

    Zero for the exact flow, since dL/dt = -|grad L|^2; descent by finite steps drifts from it.

    Args:
        loss: the loss, shape ``(n,)``, its first entry at t = 0.
        dissipated: the integral up to the same times, shape ``(n,)``.

    Returns:
        The residual, shape ``(n,)``; NaN where nothing has been lost, as at t = 0.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> loss = np.exp(-2 * np.linspace(0.0, 1.0, 3)) / 2  # of w' = -w from w = 1
    >>> gf.analysis.energy_residual(loss, dissipated=loss[0] - loss)
    array([nan,  0.,  0.])
    """
    lost = loss[:1] - loss
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lost == 0, np.nan, (lost - dissipated) / lost)
