"""What a configuration file can say of a scaling study."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from .._spec import Spec
from ..tasks import KINDS, Task

# In strict mode a list would be refused, and a tuple is what a YAML file cannot say.
Values = Annotated[tuple[int, ...], Field(min_length=2, strict=False)]


class Scaling(Spec):
    """A study of how what runs measure grows with the sizes of the problem.

    Attributes:
        vary: values of each size, by its name; the others stay as the problem has them.
        model_weights: up to how many weights the model itself is run too, where the problem is a
            reduced system of it; 0 for never.

    >>> import gradflow as gf
    >>> scaling = gf.scaling.Scaling(vary={"width": (64, 128), "lengths": (3, 4)})
    >>> for path, message in scaling.misfits(gf.tasks.Cooccurrence()):
    ...     print(message)
    no size 'lengths'; did you mean 'length'? allowed: width, neurons, length, samples
    """

    vary: Annotated[dict[str, Values], Field(min_length=1)]
    model_weights: Annotated[int, Field(ge=0)] = 0

    @field_validator("vary")
    @classmethod
    def _all_different(cls, vary: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        for name, values in vary.items():
            for i, value in enumerate(values):
                if value in values[:i]:
                    raise ValueError(f"{name} has the value {value} twice; allowed: each once")
        return vary

    def misfits(self, task: Task) -> Iterator[tuple[tuple[str, ...], str]]:
        """What of this is not possible with a problem: paths of keys, and what is wrong."""
        if not task.sizes:
            kinds = [kind.model_fields["kind"].default for kind in KINDS if kind.sizes]
            told = "of this problem nothing is followed from size to size; allowed: null, or a "
            yield (), told + f"problem of kind {' or '.join(kinds)}"
            return
        for name, values in self.vary.items():
            if name not in task.sizes:
                near = get_close_matches(name, task.sizes, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                yield ("vary", name), f"no size {name!r}; {hint}allowed: {', '.join(task.sizes)}"
                continue
            for value in values:
                try:
                    resized(task, name, value)
                except ValidationError as error:
                    told = error.errors()[0]["msg"].removeprefix("Value error, ")
                    yield ("vary", name), f"{name} = {value}: {told[:1].lower()}{told[1:]}"


def resized(task: Task, name: str, value: int) -> Task:
    """The task with another value of a field.

    Raises:
        ValidationError: it cannot have that.
    """
    return type(task)(**{**dict(task), name: value})
