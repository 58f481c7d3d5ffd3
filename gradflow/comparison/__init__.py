"""`compare`: the flow and descents by finite steps, in lockstep."""

from .compare import compare as compare
from .figures import figures as figures
from .lockstep import Comparison as Comparison
from .report import summary as summary
from .spec import Descents as Descents
