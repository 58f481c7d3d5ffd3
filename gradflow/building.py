"""The problem that a configuration describes, and whether it is one."""

from __future__ import annotations

from collections.abc import Iterator

import jax

from ._blame import UsersError, told
from ._faults import nearest
from .config import Config
from .flow.plan import observed
from .mesh import MeshError
from .observables import check_events
from .problem import Problem
from .tasks import Python, TargetError


class UnfitError(Exception):
    """A part of the configuration that is right by itself and does not suit the problem.

    Attributes:
        key: of the configuration, the path of it joined by dots.
    """

    def __init__(self, key: str, message: str):
        self.key = key
        super().__init__(message)


def prepare(config: Config) -> Problem:
    """The problem of the configuration's first seed, held against all that is asked of it.

    Raises:
        UnfitError: what the configuration asks for cannot be had of this problem.
        UsersError: the user's own code raised an error.
    """
    problem = build(config, config.seed)
    if isinstance(config.problem, Python):
        _check_own(config.problem, config, problem)
    for key, part in (("descent", config.descent), ("polish", config.polishing)):
        try:
            if part is not None:
                part.check(problem)
        except (TypeError, ValueError) as error:
            raise UnfitError(key, str(error)) from None
    return problem


def placed(config: Config, problem: Problem) -> Problem:
    """The problem on the devices of the configuration's mesh, if it has one.

    Raises:
        UnfitError: there are not so many devices, or they cannot be given equal shares.
    """
    if config.mesh is None:
        return problem
    try:
        return config.mesh.place(problem)
    except MeshError as error:
        raise UnfitError(f"mesh.{error.key}", str(error)) from None


def uncut(config: Config, problem: Problem) -> Iterator[str]:
    """A line that says which parameters the configuration's mesh cannot share out, if any."""
    if config.mesh is not None and (names := config.mesh.whole(problem)):
        count = config.mesh.params
        yield f"{', '.join(names)}: whole on every device, having no axis that {count} divides"


def _check_own(task: Python, config: Config, problem: Problem) -> None:
    """What is known of a user's own problem only now that it is there."""
    for name in ("data_seed", "initial_seed"):
        if getattr(config, name) is not None and not task.takes("data_key"):
            message = "the problem draws nothing from a data_key; allowed: null, or an argument"
            raise UnfitError(name, f"{message} data_key of the function")
    if config.seeds > 1 and not task.takes("key") and not task.takes("data_key"):
        message = f"all {config.seeds} runs would be the same; allowed: 1, or an argument key of"
        raise UnfitError("seeds", f"{message} the function, to draw from")
    try:
        records = observed(problem, config.flow, ())
        check_events(problem)
    except Exception as error:
        raise UsersError(told(error, task.source) or f"{task.target}: {error}") from error
    names = [name for o in records for name in dict.fromkeys((o.name, *(p.name for p in o.parts)))]
    own = {o.name for o in records}
    for name in config.flow.save_each:
        if name not in own:
            raise UnfitError(
                f"flow.save_each.{name}",
                f"no observable {name!r}; {nearest(name, own)}allowed: {', '.join(names)}",
            )


def build(config: Config, seed: int) -> Problem:
    """The problem of the run that has this seed.

    Raises:
        UnfitError: the file of a user's own problem is not what the configuration says.
        UsersError: the user's own code raised an error.
    """
    initial, data = (
        seed if own is None else own for own in (config.initial_seed, config.data_seed)
    )
    try:
        return config.problem.build(jax.random.key(initial), jax.random.key(data))
    except TargetError as error:
        raise UnfitError(".".join(("problem", *error.path)), str(error)) from None
