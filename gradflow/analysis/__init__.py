"""Pure functions of trajectories."""

from .density import smoothed_density as smoothed_density
from .energy import energy_residual as energy_residual
from .phases import positive_since as positive_since
