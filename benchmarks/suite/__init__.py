"""What every family of benchmarks is made of: timings, tables, criteria, a file."""

from .comparing import circumstances as circumstances
from .comparing import compare as compare
from .criterion import Criterion as Criterion
from .family import Effort as Effort
from .family import Family as Family
from .family import Findings as Findings
from .family import discover as discover
from .record import Outcome as Outcome
from .record import Record as Record
from .record import made as made
from .running import draw as draw
from .running import run as run
from .table import Column as Column
from .table import Kind as Kind
from .table import Table as Table
from .timing import alternating as alternating
from .timing import ratios as ratios
from .timing import requests as requests
from .timing import seconds as seconds
from .timing import warm as warm
