"""gradflow: the gradient flow of any JAX model, to a tolerance that means what it says."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import analysis as analysis
    from . import fields as fields
    from . import invariants as invariants
    from . import plotting as plotting
    from . import report as report
    from . import scaling as scaling
    from . import solvers as solvers
    from . import spectra as spectra
    from . import sweep as sweep
    from . import tasks as tasks
    from .comparison import Comparison as Comparison
    from .comparison import compare as compare
    from .critical_points import CriticalPoint as CriticalPoint
    from .critical_points import polish as polish
    from .descent import StabilityWarning as StabilityWarning
    from .descent import descend as descend
    from .ensemble import Ensemble as Ensemble
    from .ensemble import solve_ensemble as solve_ensemble
    from .flow import FAILURES as FAILURES
    from .flow import RESULTS as RESULTS
    from .flow import Stop as Stop
    from .flow import solve as solve
    from .mesh import Mesh as Mesh
    from .observables import Event as Event
    from .observables import Observable as Observable
    from .observables import Part as Part
    from .observables import Snapshot as Snapshot
    from .observables import observable as observable
    from .problem import Problem as Problem
    from .progress import Progress as Progress
    from .save_times import Explicit as Explicit
    from .save_times import Linear as Linear
    from .save_times import Logarithmic as Logarithmic
    from .scaling import Study as Study
    from .scaling import scaling_study as scaling_study
    from .spectra import Spectrum as Spectrum
    from .storage import Checkpoints as Checkpoints
    from .storage import CheckpointWarning as CheckpointWarning
    from .storage import Run as Run
    from .storage import load as load
    from .trajectory import Trajectory as Trajectory
    from .trajectory import Variable as Variable

__version__ = "0.1.0"

# Imported when first asked for, so that `gradflow --help` does not wait for JAX.
# fmt: off
_ROOMS = (
    "analysis", "fields", "invariants", "plotting", "report", "scaling", "solvers", "spectra",
    "sweep", "tasks",
)
# fmt: on
_HOMES = {
    "Comparison": "comparison",
    "compare": "comparison",
    "CriticalPoint": "critical_points",
    "polish": "critical_points",
    "StabilityWarning": "descent",
    "descend": "descent",
    "Ensemble": "ensemble",
    "solve_ensemble": "ensemble",
    "FAILURES": "flow",
    "RESULTS": "flow",
    "Progress": "progress",
    "Stop": "flow",
    "solve": "flow",
    "Mesh": "mesh",
    "Event": "observables",
    "Explicit": "save_times",
    "Linear": "save_times",
    "Logarithmic": "save_times",
    "Observable": "observables",
    "Part": "observables",
    "Snapshot": "observables",
    "observable": "observables",
    "Study": "scaling",
    "scaling_study": "scaling",
    "Spectrum": "spectra",
    "Problem": "problem",
    "Checkpoints": "storage",
    "CheckpointWarning": "storage",
    "Run": "storage",
    "load": "storage",
    "Trajectory": "trajectory",
    "Variable": "trajectory",
}
__all__ = ["__version__", *_ROOMS, *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
