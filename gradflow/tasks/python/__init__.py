"""A user's own problem, from a Python file."""

from .target import TargetError as TargetError
from .task import FOLDER as FOLDER
from .task import Python as Python
