"""How what a problem's runs measure grows with its sizes: one size at a time, over many seeds."""

from .figures import figures as figures
from .fits import HEADING as HEADING
from .fits import fits as fits
from .fits import tabulated as tabulated
from .spec import Scaling as Scaling
from .study import Study as Study
from .study import scaling_study as scaling_study
