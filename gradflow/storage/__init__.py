"""Runs on disk: what was computed, and the state of what is under way.

Every file appears whole or not at all.
"""

from .checkpoints import Checkpoint as Checkpoint
from .checkpoints import Checkpoints as Checkpoints
from .checkpoints import CheckpointWarning as CheckpointWarning
from .checkpoints import OtherRunError as OtherRunError
from .checkpoints import digest as digest
from .files import StorageError as StorageError
from .files import write as write
from .files import write_arrays as write_arrays
from .files import write_json as write_json
from .run import CHECKPOINTS as CHECKPOINTS
from .run import CLAIMS as CLAIMS
from .run import COMPARISON as COMPARISON
from .run import CONFIG as CONFIG
from .run import CRITICAL_POINT as CRITICAL_POINT
from .run import DESCENT as DESCENT
from .run import EIGENVALUES as EIGENVALUES
from .run import FIGURES as FIGURES
from .run import FINAL as FINAL
from .run import FLOW as FLOW
from .run import MANIFEST as MANIFEST
from .run import REPORT as REPORT
from .run import SCALING as SCALING
from .run import SEED_OF as SEED_OF
from .run import SOURCE as SOURCE
from .run import SUMMARY as SUMMARY
from .run import Run as Run
from .run import create as create
from .run import load as load
from .run import lock as lock
from .run import read_manifest as read_manifest
from .run import remove_results as remove_results
from .state import Finished as Finished
from .trajectories import read_trajectory as read_trajectory
from .trajectories import write_trajectory as write_trajectory
