"""Pure functions of trajectories."""

from .energy import energy_residual as energy_residual
from .phases import positive_since as positive_since
