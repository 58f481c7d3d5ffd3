"""The built-in problems: each is a spec that builds one. A new one is a file and a row here."""

from typing import Annotated

from pydantic import Field

from .cooccurrence import Cooccurrence as Cooccurrence
from .coupled import Coupled as Coupled
from .deep import Deep as Deep
from .digits import Digits as Digits
from .task import Claim as Claim
from .task import Task as Task
from .task import tabulated as tabulated

TaskSpec = Annotated[Cooccurrence | Coupled | Deep | Digits, Field(discriminator="kind")]
