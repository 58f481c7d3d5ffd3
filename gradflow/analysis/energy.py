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
    """
    lost = loss[:1] - loss
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lost == 0, np.nan, (lost - dissipated) / lost)
