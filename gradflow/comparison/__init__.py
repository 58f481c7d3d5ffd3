"""`compare`: the flow and descents by finite steps, in lockstep."""

from .compare import Comparison as Comparison
from .compare import compare as compare
from .figures import figures as figures
from .spec import Descents as Descents
