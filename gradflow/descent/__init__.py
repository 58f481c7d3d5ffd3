"""`descend`: gradient descent by finite steps, recorded like a flow."""

from .descend import descend as descend
from .descend import whole_steps as whole_steps
from .run import DescentRun as DescentRun
from .stability import StabilityWarning as StabilityWarning
from .stability import initial_sharpness as initial_sharpness
from .stepping import Descent as Descent
from .stepping import Optimiser as Optimiser
