"""Sharpness and spectra of the Hessian along a run, norms of parameter blocks, gradient noise.

Each function here returns an `Observable` for ``gradflow.solve(..., observables=[...])``. Nothing
forms a Hessian: everything is made of Hessian-vector products, each of which counts as two
gradient evaluations in ``trajectory.stats["observable_evaluations"]``. They are recorded at twenty
times of a run unless told otherwise, for most of them cost more than the steps between.
"""

from .gradients import block_norms as block_norms
from .gradients import gradient_noise as gradient_noise
from .hessian import density as density
from .hessian import sharpness as sharpness
from .hessian import top_eigenvalues as top_eigenvalues
from .hessian import trace as trace
from .spectrum import Spectrum as Spectrum
from .spectrum import figures as figures
