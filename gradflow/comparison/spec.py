"""What a configuration file can say of descents beside the flow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache, partial
from typing import Annotated, Any

import jax
from pydantic import Field, field_validator, model_validator

from .._spec import Spec
from ..descent import Descent
from ..fields import FieldSpec, HeavyBall, Modified, Nesterov
from ..problem import Problem

Rate = Annotated[float, Field(gt=0)]


class Descents(Spec):
    """Descents by finite steps, in lockstep with the flow to the same end.

    Attributes:
        learning_rates: one descent each, at time t = learning rate x step.
        optimiser: the name of one of optax's, e.g. sgd, adam, rmsprop.
        options: its further arguments, e.g. {momentum: 0.9, nesterov: true} of sgd.
        batch_size: samples in each step's gradient; null for all.
        modified: whether the optimiser's modified flow is solved too, of which descent is an
            approximation of second order; for sgd, with and without momentum.
        drift_limit: the drift relative to the distance travelled up to which a learning rate
            counts as following the flow.
    """

    # In strict mode a list would be refused, and a tuple is what a YAML file cannot say.
    learning_rates: Annotated[tuple[Rate, ...], Field(min_length=1, strict=False)]
    optimiser: str = "sgd"
    options: dict[str, bool | int | float] = Field(default={})
    batch_size: Annotated[int, Field(ge=1)] | None = None
    modified: bool = False
    drift_limit: Annotated[float, Field(gt=0)] = 0.01

    @field_validator("learning_rates")
    @classmethod
    def _all_different(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        check_different(rates)
        return rates

    @field_validator("optimiser")
    @classmethod
    def _known(cls, optimiser: str) -> str:
        if optimiser not in _optimisers():
            near = get_close_matches(optimiser, _optimisers(), n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(
                f"got the text {optimiser!r}; {hint}allowed: an optimiser of optax with a "
                f"learning_rate: {', '.join(_optimisers())}"
            )
        return optimiser

    @model_validator(mode="after")
    def _fits_together(self) -> Descents:
        allowed = _optimisers()[self.optimiser]
        for name in self.options:
            if name not in allowed:
                near = get_close_matches(name, allowed, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise ValueError(
                    f"{self.optimiser} has no option {name!r}; {hint}allowed: {', '.join(allowed)}"
                )
        momentum = self.options.get("momentum", 0)
        if self.modified and (
            self.optimiser != "sgd" or self.batch_size is not None or not 0 <= momentum < 1
        ):
            raise ValueError(
                "modified: no modified flow is known of these descents; allowed: true for the "
                "full batch and the optimiser sgd, with a momentum below 1 or without, else false"
            )
        return self

    def check(self, problem: Problem) -> None:
        """Whether there can be such descents of `problem`.

        Raises:
            ValueError, TypeError: why not.
        """
        key = jax.random.key(0)
        Descent.of(problem, self.build(), self.learning_rates[0], self.batch_size, key)

    def build(self) -> Callable[[Any], Any]:
        """From a learning rate to the optimiser."""
        import optax

        return partial(getattr(optax, self.optimiser), **self.options)

    def modified_field(self) -> Callable[[float], FieldSpec] | None:
        """From a learning rate to the optimiser's modified flow, if that is asked for."""
        if not self.modified:
            return None
        momentum = float(self.options.get("momentum", 0))
        if not momentum:
            return lambda rate: Modified(learning_rate=rate)
        kind = Nesterov if self.options.get("nesterov", False) else HeavyBall
        return lambda rate: kind(learning_rate=rate, momentum=momentum)


def check_different(rates: tuple[float, ...]) -> None:
    """Refuse a learning rate that is given twice.

    Raises:
        ValueError: naming it.
    """
    for i, rate in enumerate(rates):
        if rate in rates[:i]:
            raise ValueError(f"the learning rate {rate:g} is there twice; allowed: each once")


@cache
def _optimisers() -> dict[str, tuple[str, ...]]:
    """optax's optimisers with a learning rate, and the options of each."""
    import optax

    found = {}
    for name, function in vars(optax).items():
        if name.startswith(("_", "scale_by_")) or not inspect.isfunction(function):
            continue
        parameters = list(inspect.signature(function).parameters)
        if parameters[:1] == ["learning_rate"]:
            found[name] = tuple(parameters[1:])
    return found
