"""Pure functions of trajectories."""

from .density import smoothed_density as smoothed_density
from .energy import energy_residual as energy_residual
from .order import Order as Order
from .order import crossings as crossings
from .order import ensemble_order as ensemble_order
from .order import fitted_order as fitted_order
from .order import largest_rate as largest_rate
from .phases import positive_since as positive_since
from .seeds import HIGH as HIGH
from .seeds import LOW as LOW
from .seeds import Band as Band
from .seeds import band as band
from .seeds import proportion_interval as proportion_interval
from .series import Series as Series
from .series import derived as derived
from .series import log_slope as log_slope
from .series import slope as slope
