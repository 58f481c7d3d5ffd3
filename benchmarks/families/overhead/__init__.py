"""Family D, overhead: what a solver takes beside the gradients that it asks for.

A gradient inside of `solve` is held against the bare jitted gradient, called from Python again and
again with nothing done in between. Memory is counted in copies of the parameters, those of the
user's own apart.
"""

from __future__ import annotations

from benchmarks.suite import Effort, Family, Findings

from . import figure, memory, parts, sizes


def measure(effort: Effort) -> Findings:
    """Time by size and precision, where it goes at the paper's size, and memory."""
    by_size, time_criteria = sizes.measure(effort)
    where = parts.measure(effort)
    held, memory_criteria = memory.measure(effort)
    skipped = ["with --quick: some sizes, and the memory of some solvers"] if effort.quick else []
    return Findings([by_size, where, held], [*time_criteria, *memory_criteria], skipped)


FAMILY = Family(
    "overhead",
    "D",
    "what does a solver take beside the gradients, in time and in memory?",
    measure,
    figure.draw,
)
