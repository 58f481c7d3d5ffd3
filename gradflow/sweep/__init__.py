"""Sweeps: any values of a configuration varied together, every point run by Dask's workers."""

from .cluster import ClusterError as ClusterError
from .cluster import Workers as Workers
from .dimensions import Axis as Axis
from .dimensions import Dimension as Dimension
from .dimensions import Range as Range
from .figures import of_sweep as of_sweep
from .page import replot as replot
from .page import write_report as write_report
from .plan import Plan as Plan
from .plan import Point as Point
from .plan import is_sweep as is_sweep
from .plan import key_of as key_of
from .plan import plan as plan
from .point import Status as Status
from .point import status as status
from .run import Standing as Standing
from .run import Sweep as Sweep
from .run import run as run
from .schema import schema as schema
