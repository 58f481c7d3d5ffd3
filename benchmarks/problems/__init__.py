"""Gradient flows that solvers are measured on. A new family is a file and a row here.

``python -m benchmarks.problems`` prints what they are; README.md beside this file has that table.
"""

from . import deep_linear, digits, quadratics, teacher_student, transformer
from .case import TAGS as TAGS
from .case import Case as Case
from .case import flat as flat
from .case import observed_flat as observed_flat
from .case import unflat as unflat

_FAMILIES = (quadratics, deep_linear, teacher_student, transformer, digits)
PROBLEMS: dict[str, Case] = {case.name: case for family in _FAMILIES for case in family.CASES}
