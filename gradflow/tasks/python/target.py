"""What a target names: it is imported once, and called with a run's key and arguments."""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jaxtyping import Array

from ..._blame import UsersError, place, told
from ...problem import Problem

KEYS = ("key", "data_key")  # what a run gives to a function that asks for it


class TargetError(ValueError):
    """A target that cannot be used as the configuration asks.

    Attributes:
        path: the key of the configuration to change, below ``problem``.

    >>> import gradflow as gf
    >>> try:
    ...     gf.tasks.Python(target="nowhere.py:make").takes("key")
    ... except gf.tasks.TargetError as error:
    ...     print(error.path, error)
    ('target',) no file .../nowhere.py; allowed: a file, seen from where the config lies
    """

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        self.path = path
        super().__init__(message)


def is_file(home: str) -> bool:
    """Whether what stands before the colon is a file; otherwise it is a module's name."""
    return home.endswith(".py")


class Target:
    """A function that makes a problem, or a problem as it stands.

    Args:
        home: a Python file, or the dotted name of a module.
        name: of what is meant in there.

    Raises:
        TargetError: there is no such file, module or name.
        UsersError: the file raised an error.
    """

    def __init__(self, home: str, name: str) -> None:
        self.source = Path(home) if is_file(home) else None
        module = self._guarded(_module, home)
        try:
            self._made = getattr(module, name)
        except AttributeError:
            own = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
            here = [n for n in own if getattr(vars(module)[n], "__module__", "") == module.__name__]
            hint = _near(name, here)
            there = f"there are: {', '.join(here)}" if here else "there is no function in it"
            raise TargetError(("target",), f"no {name!r} in {home}; {hint}{there}") from None
        self.name = name
        if not callable(self._made) and not isinstance(self._made, Problem):
            raise TargetError(
                ("target",),
                f"{name!r} in {home} is {type(self._made).__name__}; allowed: a function that "
                "returns a gradflow.Problem, or a gradflow.Problem",
            )

    def takes(self, name: str) -> bool:
        """Whether the function has an argument of that name."""
        return name in self._parameters

    def check(self, args: Mapping[str, Any]) -> None:
        """Hold the arguments against those that the function has.

        Raises:
            TargetError: it has no such argument, or has another that must be given.
        """
        parameters = [p for p in self._parameters.values() if p.name not in KEYS]
        allowed = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
        for name in args:
            if name in KEYS:
                raise TargetError(("args", name), f"{name} comes from the seed; leave it out")
            if name not in allowed and not anything:
                hint = _near(name, allowed)
                message = f"{self} has no {name!r}; {hint}allowed: {', '.join(allowed) or 'none'}"
                raise TargetError(("args", name), message)
        needed = [p.name for p in parameters if p.default is p.empty and p.name in allowed]
        if missing := [name for name in needed if name not in args]:
            usual = f"problem.args: {{{missing[0]}: ...}}"
            raise TargetError(("args",), f"{self} needs {', '.join(missing)} too: {usual}")

    def __call__(self, keys: Mapping[str, Array], args: Mapping[str, Any]) -> Problem:
        """The problem, made with those of the keys that the function takes.

        Raises:
            TargetError: the arguments do not fit the function.
            UsersError: it raised an error, or returned something else than a problem.
        """
        if isinstance(self._made, Problem):
            if args:
                raise TargetError(("args",), f"{self.name!r} is a problem and takes no arguments")
            return self._made
        self.check(args)
        given = {name: key for name, key in keys.items() if self.takes(name)}
        made = self._guarded(lambda: self._made(**given, **args))
        if not isinstance(made, Problem):
            raise UsersError(
                f"{place(self._made)}: in {self.name}: must return a gradflow.Problem, got "
                f"{_described(made)}\n"
                "usual fix: return gradflow.Problem(loss, params, data)"
            )
        return made

    def _guarded(self, function: Callable[..., Any], *args: Any) -> Any:
        """What a function returns that runs the user's code; its errors as told ones."""
        try:
            with _beside(self.source):
                return function(*args)
        except (TargetError, UsersError):
            raise
        except (Exception, SystemExit) as error:
            if lines := told(error, self.source):
                raise UsersError(lines) from error
            raise

    @property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self._made).parameters if callable(self._made) else {}

    def __str__(self) -> str:
        return f"{self.name} ({place(self._made)})"


class _Loaded(NamedTuple):
    """A module of the user's, and the state of the files that it came from."""

    module: ModuleType
    stamps: dict[Path, tuple[int, int]]


_loaded: dict[str, _Loaded] = {}
_loading = threading.RLock()


def _module(home: str) -> ModuleType:
    """The module, imported once: the same functions again are the same to the compiler."""
    if not is_file(home):
        try:
            return importlib.import_module(home)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{home}.".startswith(f"{error.name}."):
                raise
            raise TargetError(
                ("target",), f"no module {error.name!r}; allowed: FILE.py:NAME or MODULE:NAME"
            ) from None
    path = Path(home)
    if not path.is_file():
        hint = _near(path.name, [p.name for p in path.parent.glob("*.py")])
        raise TargetError(
            ("target",), f"no file {home}; {hint}allowed: a file, seen from where the config lies"
        )
    with _loading:
        if home not in _loaded or _stamps(_loaded[home].stamps) != _loaded[home].stamps:
            _loaded[home] = _load(path)
        return _loaded[home].module


def _load(path: Path) -> _Loaded:
    """Run a file as a module of its own, and keep its neighbours out of the way of others'."""
    name = f"_gradflow_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    before = dict(sys.modules)
    sys.modules[name] = module  # where dataclasses look for their annotations' names
    files = {path}
    try:
        # Not by an importer: bytecode that it keeps knows whole seconds only.
        exec(compile(path.read_bytes(), path, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        for other, loaded in list(sys.modules.items()):
            file = getattr(loaded, "__file__", None)
            if other not in before and other != name and file and _is_below(Path(file), path):
                files.add(Path(file))
                del sys.modules[other]
    return _Loaded(module, _stamps(files))


def _is_below(file: Path, source: Path) -> bool:
    """Whether a file is one of the user's own beside the source."""
    return file.is_relative_to(source.parent) and "site-packages" not in file.parts


def _stamps(files: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """What tells whether files were changed."""
    return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.exists()}


@contextmanager
def _beside(source: Path | None) -> Iterator[None]:
    """Lets a file import its neighbours, as a script may."""
    folder = [] if source is None else [str(source.parent)]
    sys.path[:0] = folder
    try:
        yield
    finally:
        for each in folder:
            with suppress(ValueError):  # the user's code may have taken it out
                sys.path.remove(each)


def _near(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def _described(made: Any) -> str:
    if made is None:
        return "None; does it end without return?"
    if isinstance(made, tuple | list):
        return f"a {type(made).__name__} of {len(made)}"
    return f"{type(made).__name__}"
