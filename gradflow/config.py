"""The configuration file: read, checked, and every fault shown where it stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from ._faults import MisfitError, Translator, nearest
from ._spec import Spec
from ._sweeps import sweeps
from ._yaml import Fault, Node, quote, read, show_path, write
from .comparison import Descents
from .critical_points import Polish
from .fields import GRADIENT
from .flow import FlowSpec, check_tolerance
from .mesh import Mesh
from .observables import COMMON
from .scaling import Scaling
from .storage import Checkpoint
from .tasks import Python, TaskSpec
from .tasks.python import FOLDER

__all__ = ["Config", "ConfigError", "Fault", "dump", "load", "parse", "schema"]

Model = TypeVar("Model", bound=BaseModel)


class ConfigError(Exception):
    """A configuration that cannot be used; ``str`` gives one line per fault.

    Attributes:
        faults: everything that is wrong, by file, line and column.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))


# JAX keeps the low 32 bits of a seed in single precision: a larger one would mean two things.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Config(Spec):
    """Everything `gradflow solve` needs to know.

    Attributes:
        problem: what is trained: one of the built-in tasks, by its kind.
        flow: how the gradient flow is integrated, and what is saved of it.
        seed: the seed of everything random, data and initial parameters alike.
        data_seed: of the data alone; null for that of the run.
        initial_seed: of the initial parameters alone; null for that of the run.
        seeds: runs, of the seeds seed, seed + 1 and so on; more than one make an ensemble.
        precision: the dtype of parameters, data and time.
        output: the directory of the run; null for one named after the configuration file.
        figures: whether the figures are drawn.
        report: whether everything is put on one page, report.html, with the figures if drawn.
        checkpoint: when the state of the run is kept, so that it can go on after it was cut off;
            null for never, but for when it is interrupted.
        descent: descents by finite steps in lockstep with the flow; null for none.
        polish: whether, or how, the critical point is found that the flow goes to.
        scaling: a study of what runs measure at other sizes of the problem, in place of its one
            run; null for none.
        mesh: the devices over which the run is spread; null for one.
    """

    problem: TaskSpec
    flow: FlowSpec
    seed: Seed = 0
    data_seed: Seed | None = None
    initial_seed: Seed | None = None
    seeds: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    precision: Literal["float64", "float32"] = "float64"
    output: str | None = None
    figures: bool = True
    report: bool = True
    checkpoint: Checkpoint | None = Checkpoint()
    descent: Descents | None = None
    polish: bool | Polish = False
    scaling: Scaling | None = None
    mesh: Mesh | None = None

    @field_validator("output")
    @classmethod
    def _can_be_a_path(cls, output: str | None) -> str | None:
        if output is not None and (not output or "\0" in output):
            raise ValueError(f"got the text {quote(output)}; allowed: a path, or null")
        return output

    @property
    def polishing(self) -> Polish | None:
        """How the critical point is found; ``None`` if it is not."""
        return Polish() if self.polish is True else self.polish or None

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        faults = list(self._ensemble_faults()) if self.seeds > 1 else []
        if self.polishing is not None:
            faults += self._polish_faults()
        if self.scaling is not None:
            faults += self._scaling_faults(self.scaling)
        if self.mesh is not None:
            faults += self._mesh_faults(self.mesh)
        try:
            check_tolerance(self.flow.rtol, self.precision, self.flow.certify)
        except ValueError as error:
            faults.append((("flow", "rtol"), str(error)))
        save = self.checkpoint.save if self.checkpoint is not None else None
        try:
            if save is not None:
                save.build(self.flow.t1)
        except ValueError as error:
            faults.append((("checkpoint", "save"), str(error)))
        for rate in self.descent.learning_rates if self.descent is not None else ():
            if rate > self.flow.t1:
                faults.append(
                    (
                        ("descent", "learning_rates"),
                        f"the learning rate {rate:g} is larger than flow.t1 = {self.flow.t1:g}, "
                        "so that not one step fits; allowed: at most flow.t1",
                    )
                )
        names = [observable.name for observable in (*COMMON, *self.problem.observables)]
        names += self.flow.spectrum.names if self.flow.spectrum is not None else ()
        # What a user's own problem records is known once it is built.
        known = not isinstance(self.problem, Python)
        for name in self.flow.save_each:
            if known and name not in names:
                message = f"no observable {quote(name)}; {nearest(name, names)}allowed: "
                faults.append((("flow", "save_each", name), message + ", ".join(names)))
        if faults:
            raise MisfitError(faults)
        return self

    def _ensemble_faults(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if self.seed + self.seeds > 2**32:
            yield (
                ("seeds",),
                f"{self.seeds} seeds from {self.seed} on reach beyond {2**32 - 1}, the largest; "
                f"allowed: seed at most {2**32 - self.seeds}",
            )
        if self.data_seed is not None and self.initial_seed is not None:
            yield (
                ("seeds",),
                f"all {self.seeds} runs would be the same, with both data_seed and initial_seed "
                "given; allowed: one of them, or none",
            )
        if self.descent is not None:
            yield (
                ("descent",),
                f"descents run beside one flow, and there are {self.seeds} seeds; allowed: null, "
                "or seeds: 1",
            )

    def _polish_faults(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if self.scaling is not None:
            yield ("polish",), "one flow is polished, and there is a scaling study; allowed: false"
        elif self.seeds > 1:
            many = f"there are {self.seeds} seeds"
            yield ("polish",), f"one flow is polished, and {many}; allowed: false, or seeds: 1"
        if self.flow.field != GRADIENT:
            yield (
                ("polish",),
                f"the flow that is polished is that of the gradient, and flow.field is "
                f"{self.flow.field.kind}; allowed: false, or flow.field: gradient",
            )

    def _scaling_faults(self, scaling: Scaling) -> Iterator[tuple[tuple[str, ...], str]]:
        for path, message in scaling.misfits(self.problem):
            yield ("scaling", *path), message
        if self.descent is not None and self.seeds == 1:
            told = "descents run beside one flow, and there is a scaling study; allowed: null"
            yield ("descent",), told

    def _mesh_faults(self, mesh: Mesh) -> Iterator[tuple[tuple[str, ...], str]]:
        if self.scaling is not None:
            yield ("mesh",), "one run is spread, and there is a scaling study; allowed: null"
        elif self.seeds > 1:
            many = f"one run is spread, and there are {self.seeds} seeds"
            yield ("mesh",), f"{many}; allowed: null, or seeds: 1"
        if self.polishing is not None and mesh.distributed and mesh.params > 1:
            told = "what is polished must lie whole on every host, and mesh.params cuts it"
            yield ("polish",), f"{told}; allowed: false, or mesh.params: 1"


def parse(model: type[Model], path: str | PathLike[str], overrides: Sequence[str] = ()) -> Model:
    """The `model` that the YAML file `path` describes, changed by ``key.path=value`` overrides.

    Later overrides win. They create the mappings they need, and replace a list as a whole.

    Raises:
        ConfigError: with everything that is wrong, in the file and in the overrides.
    """
    root, faults = read(path, overrides)
    if root is None:
        raise ConfigError(faults)
    instance, found = Reader(model, path).read(root)
    # A value the reader has refused stands in the tree as null: its fault is told already.
    told = {(fault.file, fault.line, fault.column) for fault in faults}
    faults += [fault for fault in found if (fault.file, fault.line, fault.column) not in told]
    if instance is None or faults:
        raise ConfigError(faults)
    return instance


class Reader(Generic[Model]):
    """Makes a `model` of the values in the YAML file `path`, one or many times over."""

    def __init__(self, model: type[Model], path: str | PathLike[str]) -> None:
        self._model = model
        self._folder = Path(path).absolute().parent

    @cached_property
    def _translator(self) -> Translator:
        return Translator(self._model.model_json_schema())

    def read(self, root: Node) -> tuple[Model | None, list[Fault]]:
        """The model, or what is wrong."""
        message = "a sweep; allowed: one value here, or gradflow sweep, which runs them all"
        if found := [Fault(*node.where, show_path(at), message) for at, node in sweeps(root)]:
            return None, found
        # As JSON, a list may fill a tuple; in Python's own types pydantic's strict mode objects.
        content = json.dumps(root.plain())
        try:
            return self._model.model_validate_json(content, context={FOLDER: self._folder}), []
        except ValidationError as error:
            return None, self._translator.faults(root, error)


def fault(path: str | PathLike[str], overrides: Sequence[str], key: str, message: str) -> Fault:
    """What is wrong with the value of ``key.path``, though it is valid, where it stands."""
    node, _ = read(path, overrides)
    for part in key.split("."):
        below = node.content.get(part) if node and isinstance(node.content, dict) else None
        if below is None:
            break
        node = below
    return Fault(*(node.where if node else (str(path), 1, 1)), key, message)


def load(path: str | PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """The configuration in the YAML file `path`; see `parse`.

    Raises:
        ConfigError: with everything that is wrong, in the file and in the overrides.
    """
    return parse(Config, path, overrides)


def dump(config: Spec) -> str:
    """The resolved configuration as YAML, all defaults written out; `load` reads it back."""
    return write(config.model_dump(mode="json"))


def schema() -> dict[str, Any]:
    """The JSON schema of a configuration file, for editors."""
    whole = Config.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **whole,
        "title": "gradflow configuration",
    }
