"""Series to figure: figures are described as data, and drawn from a trajectory alone."""

from .automatic import automatic as automatic
from .drawing import FILES as FILES
from .drawing import Kind as Kind
from .drawing import draw as draw
from .drawing import render as render
from .figures import ENERGY as ENERGY
from .figures import LOSS as LOSS
from .figures import Figure as Figure
from .figures import Line as Line
from .figures import Panel as Panel
from .figures import Reference as Reference
from .heat_map import HeatMap as HeatMap
from .onto import plot as plot
from .onto import style as style
