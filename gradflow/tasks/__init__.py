"""The built-in problems: each is a spec that builds one. A new one is a file and a row here."""

from typing import Annotated

from pydantic import Field

from .cooccurrence import Cooccurrence as Cooccurrence
from .digits import Digits as Digits
from .task import Task as Task

TaskSpec = Annotated[Cooccurrence | Digits, Field(discriminator="kind")]
