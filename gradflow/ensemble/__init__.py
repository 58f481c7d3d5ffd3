"""`solve_ensemble`: one flow for each seed, and what they say together."""

from .solve import Ensemble as Ensemble
from .solve import checked_seeds as checked_seeds
from .solve import solve_ensemble as solve_ensemble
