"""What is recorded along a run."""

from .common import COMMON as COMMON
from .common import DISSIPATED as DISSIPATED
from .common import DISTANCE as DISTANCE
from .common import ENERGY as ENERGY
from .common import GRAD_NORM as GRAD_NORM
from .common import LOSS as LOSS
from .observable import Event as Event
from .observable import Observable as Observable
from .observable import Part as Part
from .observable import Reading as Reading
from .observable import Snapshot as Snapshot
from .plain import PlainObservable as PlainObservable
from .plain import observable as observable
from .recorded import Observables as Observables
from .recorded import check_events as check_events
from .recorded import recorded as recorded
