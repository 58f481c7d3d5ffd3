"""`solve`: the flow of a problem, to a tolerance."""

from .run import Progress as Progress
from .run import solve as solve
from .spec import FAILURES as FAILURES
from .spec import RESULTS as RESULTS
from .spec import FlowSpec as FlowSpec
from .spec import Stop as Stop
from .spec import check_tolerance as check_tolerance
