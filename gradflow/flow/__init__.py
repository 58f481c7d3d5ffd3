"""`solve`: the flow of a problem, to a tolerance."""

from .certificate import Certificate as Certificate
from .lanes import Lanes as Lanes
from .plan import observed as observed
from .run import FlowRun as FlowRun
from .solve import checked as checked
from .solve import solve as solve
from .solving import identity as identity
from .spec import FAILURES as FAILURES
from .spec import RESULTS as RESULTS
from .spec import FlowSpec as FlowSpec
from .spec import Stop as Stop
from .spec import check_tolerance as check_tolerance
