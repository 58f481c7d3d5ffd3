"""Several processes that make one run, of which the first keeps it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from . import storage
from ._devices import all_or_none, leads
from .config import Config

# What the others are told where one cannot begin.
NO_PLACE = storage.StorageError("another process of the run cannot use the directory")

Outcome = TypeVar("Outcome")


def kept_once(act: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """The function ``act(config, directory, ...)``, for all processes of a run to call.

    What it writes is kept by the first alone. The others, who take the same steps and so have to
    go on from the same state, begin with a copy of what is there, and throw it away in the end.
    """

    @wraps(act)
    def acting(config: Config, directory: Path, *, resume: bool = False, **options: Any) -> Outcome:
        if config.mesh is None or not config.mesh.distributed:
            return act(config, directory, resume=resume, **options)
        # They have met, and who they were need not be so when the run goes on.
        mesh = config.mesh.model_copy(update={"distributed": True})
        config = config.model_copy(update={"mesh": mesh})
        with TemporaryDirectory() as folder:
            with all_or_none(NO_PLACE):
                if not leads():
                    own = Path(folder) / directory.name
                    if resume and directory.exists():
                        copytree(directory, own)
                    directory = own
                    config = config.model_copy(update={"figures": False, "report": False})
            return act(config, directory, resume=resume, **options)

    return acting
