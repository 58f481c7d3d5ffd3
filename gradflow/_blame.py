"""Whose line it is: what goes wrong in a user's function is told as theirs, at their line."""

from __future__ import annotations

import inspect
import linecache
import os
import re
import sysconfig
import types
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import jax

Result = TypeVar("Result")

_HERE = os.path.join(os.path.dirname(__file__), "")
_LONGEST = 200  # characters of a message, or of a line of code


class UsersError(Exception):
    """Something is wrong in a user's own code; ``str`` tells what and where in a few lines."""


def place(function: Any) -> str:
    """Where a function was defined, ``FILE:LINE``; empty for what Python cannot tell."""
    while not isinstance(function, types.FunctionType):
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, types.MethodType) or hasattr(function, "__wrapped__"):
            function = getattr(function, "__wrapped__", None) or function.__func__
        else:
            function = vars(type(function)).get("__call__")
            if not isinstance(function, types.FunctionType):
                return ""
    code = function.__code__
    return f"{_short(code.co_filename)}:{code.co_firstlineno}"


def check_call(function: Callable[..., Any], names: tuple[str, ...]) -> None:
    """Refuse a function that cannot be called with as many arguments.

    Raises:
        TypeError: naming what is called, and where it stands.
    """
    try:
        inspect.signature(function, follow_wrapped=False).bind(*names)
    except TypeError as error:
        name = getattr(function, "__name__", "it")
        at = f" ({at})" if (at := place(function)) else ""
        raise TypeError(f"{name} must take ({', '.join(names)}): {error}{at}") from None
    except ValueError:
        return  # built in, without a signature


def trace(users: Callable[..., Any], function: Callable[..., Result], *args: Any) -> Result:
    """Call a function that calls a user's; what is raised keeps the user's own frames alone.

    An error without any names the place of the user's function in a note.
    JAX_TRACEBACK_FILTERING=off keeps all frames, as it does in JAX.
    """
    try:
        return function(*args)
    except Exception as error:
        if os.environ.get("JAX_TRACEBACK_FILTERING") == "off":
            raise
        kept = None
        for tb in reversed(_users_frames(error)):
            kept = types.TracebackType(kept, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
        if hasattr(error, "__notes__"):  # without JAX's, on the frames that it has removed
            error.__notes__ = [note for note in error.__notes__ if "JAX" not in note]
        if kept is None and type(error).__module__.startswith("jax") and (at := place(users)):
            error.add_note(f"in the function at {at}")
        cause = None if _is_jaxs(error.__cause__) else error.__cause__
        raise error.with_traceback(kept) from cause


def not_finite(function: Callable[..., Any], *args: Any) -> str:
    """Where a function first makes a NaN, or else an infinity; empty if it makes none.

    The function is run operation by operation. Not for several threads at once.
    """
    kinds = {"jax_debug_nans": "a NaN", "jax_debug_infs": "an infinity"}
    for flag, kind in kinds.items():
        before = getattr(jax.config, flag)
        jax.config.update(flag, True)
        try:
            with jax.disable_jit():
                function(*args)
        except FloatingPointError as error:
            return f"{kind} first appears here:\n{told(error)}"
        finally:
            jax.config.update(flag, before)
    return ""


def _users_frames(error: BaseException, source: Path | None = None) -> list[types.TracebackType]:
    """Those of an error's frames that are no library's, the innermost last."""

    def own(trace: types.TracebackType | None) -> list[types.TracebackType]:
        frames = []
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            if not _is_library(name) or (source is not None and Path(name) == source):
                frames.append(trace)
            trace = trace.tb_next
        return frames

    found = own(error.__traceback__)
    # JAX has the line at which it was given what it cannot transform in the error's cause, whose
    # stack goes back beyond where the error was caught: to whoever called this package.
    if _is_jaxs(error.__cause__):
        trace = inner = getattr(error.__cause__, "__traceback__", None)
        while trace is not None:
            if trace.tb_frame.f_code.co_filename.startswith(_HERE):
                inner = trace.tb_next
            trace = trace.tb_next
        found += own(inner)
    return found


def told(error: BaseException, source: Path | None = None, otherwise: str = "") -> str:
    """What went wrong and at which of the user's lines, in at most five lines.

    Args:
        error: as it was caught.
        source: a file that is the user's wherever it lies.
        otherwise: the place to name for an error of JAX that has none.

    Returns:
        Place, kind and message; the line itself; where the user called it from, if anywhere; and
        the usual fix, if there is one. Empty if no line of the user's took part.
    """
    if isinstance(error, SyntaxError) and error.filename:
        code = _cut((error.text or "").strip())
        lines = [f"{_short(error.filename)}:{error.lineno}: {_kind(error)}: {error.msg}"]
        return "\n".join(lines + [f"    {code}"] * bool(code))
    own = _users_frames(error, source)
    if own:
        last = own[-1].tb_frame.f_code
        inside = "" if last.co_name == "<module>" else f"in {last.co_name}: "
        lines = [f"{_at(own[-1])}: {inside}{_kind(error)}: {_message(error)}"]
        lines += [f"    {code}"] if (code := _code(own[-1])) else []
        called = [tb for tb in own if tb.tb_frame.f_code is not last]
        if called:
            lines.append(f"called from {_at(called[-1])}: {_code(called[-1])}")
    elif line := _mentioned(error, source):
        lines = [f"{_short(str(source))}:{line}: {_kind(error)}: {_message(error)}"]
        lines += [f"    {code}"] if (code := _line(str(source), line)) else []
    elif otherwise and type(error).__module__.startswith("jax"):
        lines = [f"{otherwise}: {_kind(error)}: {_message(error)}"]
    else:
        return ""
    if fix := _fix(error):
        lines.append(f"usual fix: {fix}")
    return "\n".join(lines)


def _is_jaxs(cause: BaseException | None) -> bool:
    """Whether a cause is JAX's word on where an operation came from."""
    return "BeforeTransformation" in type(cause).__name__


@cache
def _libraries() -> tuple[str, ...]:
    places = {sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib")}
    return (*(os.path.join(path, "") for path in places), _HERE)


@cache
def _is_library(filename: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to this one."""
    if filename.startswith(("<frozen ", *_libraries())):
        return True
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(filename).parts)


def _short(filename: str) -> str:
    """As the user would write it: below the working directory relative to that."""
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename


def _at(tb: types.TracebackType) -> str:
    return f"{_short(tb.tb_frame.f_code.co_filename)}:{tb.tb_lineno}"


def _code(tb: types.TracebackType) -> str:
    return _line(tb.tb_frame.f_code.co_filename, tb.tb_lineno)


def _line(filename: str, number: int) -> str:
    linecache.checkcache(filename)  # it may have been changed in the meantime
    return _cut(linecache.getline(filename, number).strip())


def _mentioned(error: BaseException, source: Path | None) -> int:
    """The line of the user's file that a message names, where nobody is on the stack any more."""
    said = "\n".join((str(error), *getattr(error, "__notes__", ())))
    named = re.search(rf"{re.escape(source.name)}:(\d+)", said) if source is not None else None
    return int(named[1]) if named else 0


def _kind(error: BaseException) -> str:
    return type(error).__name__


def _message(error: BaseException) -> str:
    """The message's first line that says something; where a fix is told, its first sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[0] if lines else "(no message)"
    return _cut(line.partition(". ")[0] if _fix(error) else line)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


# By a part of the error's type or message: what is done about it.
_FIXES: tuple[tuple[str, str], ...] = (
    (
        "TracerBoolConversionError",
        "if, while, and, or cannot look at traced values; use jnp.where or jax.lax.cond",
    ),
    (
        "TracerArrayConversionError",
        "NumPy cannot see traced values; use the function of that name in jax.numpy",
    ),
    (
        "TracerIntegerConversionError",
        "a traced value cannot be an index or a length of Python's; use jnp.take or a fixed size",
    ),
    (
        "ConcretizationTypeError",
        "float(), int(), range() and .item() cannot look at traced values; keep them arrays",
    ),
    (
        "NonConcreteBooleanIndexError",
        "the shape would depend on values; use jnp.where(mask, x, 0) in place of x[mask]",
    ),
    (
        "UnexpectedTracerError",
        "a traced value was kept outside of the function that it belongs to; return it instead",
    ),
    ("JAX arrays are immutable", "x = x.at[i].set(value) in place of x[i] = value"),
    ("Reverse-mode differentiation does not work", "a loop of fixed length: jax.lax.scan"),
    ("unsupported operand type(s) for @", "jnp.dot on arrays; a list or dict of them has no @"),
)


def _fix(error: BaseException) -> str:
    names = " ".join(each.__name__ for each in type(error).__mro__)
    texts = f"{names} {error}"
    return next((fix for sign, fix in _FIXES if sign in texts), "")
