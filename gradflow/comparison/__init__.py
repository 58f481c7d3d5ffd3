"""`compare`: the flow and descents by finite steps, in lockstep."""

from .compare import Comparison as Comparison
from .compare import compare as compare
from .figures import figures as figures
from .report import summary as summary
from .spec import Descents as Descents
