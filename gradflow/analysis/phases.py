"""When something begins to hold for good."""

from __future__ import annotations

import numpy as np


def positive_since(
    crossings: np.ndarray, value_at_end: float, until: float = np.inf
) -> float | None:
    """The first time from which an event's function stays positive up to `until`.

    Args:
        crossings: its zero crossings, rows ``(time, +1 or -1)``, ascending.
        value_at_end: its value at the end of the run.
        until: how long it must stay positive; beyond it nothing matters.

    Returns:
        The time, located as the crossings are and not on the save times; 0 if the function was
        positive throughout; ``None`` if it is not positive at `until`.

    >>> import gradflow as gf
    >>> import numpy as np
    >>> crossings = np.array([[1.0, 1.0], [2.0, -1.0], [3.0, 1.0]])
    >>> gf.analysis.positive_since(crossings, value_at_end=0.5)
    3.0
    >>> gf.analysis.positive_since(crossings, value_at_end=0.5, until=1.5)
    1.0
    """
    before = crossings[crossings[:, 0] <= until]
    after = crossings[crossings[:, 0] > until]
    if len(before):
        time, direction = before[-1]
        return float(time) if direction > 0 else None
    sign = -after[0, 1] if len(after) else value_at_end
    return 0.0 if sign > 0 else None
