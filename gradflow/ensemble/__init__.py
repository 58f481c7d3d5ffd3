"""`solve_ensemble`: one flow for each seed, and what they say together."""

from .record import SEED as SEED
from .solve import Ensemble as Ensemble
from .solve import solve_ensemble as solve_ensemble
