"""A stored run on one page, and the figures that it has."""

from .page import write as write
from .shown import Shown as Shown
from .shown import invariants as invariants
from .shown import keep as keep
from .shown import of_flow as of_flow
from .shown import of_run as of_run
from .shown import of_study as of_study
from .shown import phases as phases
from .shown import render as render
