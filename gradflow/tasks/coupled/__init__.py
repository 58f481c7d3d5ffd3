"""The co-occurrence transformer as a closed system, whose size does not depend on its widths.

Independent of the transformer's own code: nothing here calls its forward pass.
"""

from .observables import EVENTS as EVENTS
from .observables import OBSERVABLES as OBSERVABLES
from .system import Sizes as Sizes
from .system import State as State
from .system import of_weights as of_weights
from .system import squared_speed as squared_speed
from .system import velocity as velocity
from .task import Coupled as Coupled
