"""What XLA is told about the programs of a run."""

from typing import Any

# A program that runs once: the time it takes is the time it takes to compile.
ONCE: dict[str, Any] = {"xla_backend_optimization_level": 0}

# The loop of steps. On a CPU XLA orders a program such that much of it could run side by side, for
# which all norms of a step, with an array each, are under way at once. One after the other they
# take two to three copies of the parameters less, and on two cores no longer.
LEAN: dict[str, Any] = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
