"""What one run of a task measures, to be held against those of other sizes."""

from __future__ import annotations

from typing import NamedTuple


class Measure(NamedTuple):
    """A positive number read off one run, with what theory says of it at the sizes of that run.

    Attributes:
        name: unique among the measures of a task, fit for the name of a variable.
        label: what a figure writes on the axis.
        value: the number; ``None`` if the run does not have it.
        source: the theorem that `order` is from.
        order: what a paper says the number is in proportion to; ``None`` if it names no order.
        limit: what the number itself tends to in a limit that a task knows; ``None`` if unknown.
        note: why `value` is ``None``.

    >>> import gradflow as gf
    >>> measure = gf.tasks.Measure("T1", "end of phase 1", 0.22, source="Thm 3.1", order=1 / 128)
    >>> measure.value, measure.limit
    (0.22, None)
    """

    name: str
    label: str
    value: float | None = None
    source: str = ""
    order: float | None = None
    limit: float | None = None
    note: str = ""
