"""The built-in problems: each is a spec that builds one. A new one is a file and a row here."""

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from .claims import Claim as Claim
from .claims import Tally as Tally
from .claims import tabulated as tabulated
from .claims import tally as tally
from .committee import Committee as Committee
from .cooccurrence import Cooccurrence as Cooccurrence
from .coupled import Coupled as Coupled
from .deep import Deep as Deep
from .deep_linear import DeepLinear as DeepLinear
from .digits import Digits as Digits
from .matrix_factorisation import MatrixFactorisation as MatrixFactorisation
from .measure import Measure as Measure
from .next_token import NextToken as NextToken
from .python import Python as Python
from .python import TargetError as TargetError
from .separable import Separable as Separable
from .task import Task as Task
from .teacher_student import TeacherStudent as TeacherStudent

KINDS = (
    Cooccurrence,
    Coupled,
    Deep,
    Digits,
    DeepLinear,
    MatrixFactorisation,
    Separable,
    TeacherStudent,
    Committee,
    NextToken,
    Python,
)
if TYPE_CHECKING:
    TaskSpec = Task
else:
    TaskSpec = Annotated[Union[KINDS], Field(discriminator="kind")]  # noqa: UP007
