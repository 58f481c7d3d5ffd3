"""Every public name has an example in its docstring, and every example says what is true."""

import ast
import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jax
import pytest

import gradflow as gf

PACKAGE = Path(gf.__file__).parent


def _docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Every docstring at and below a node, under its dotted name."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        yield name, ast.get_docstring(node) or ""
        for inner in node.body:
            yield from _docstrings(inner, f"{name}.{getattr(inner, 'name', '')}")


def _examples() -> Iterator[doctest.DocTest]:
    """The examples of the package, each on its own."""
    parser = doctest.DocTestParser()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for where, text in _docstrings(ast.parse(path.read_text(encoding="utf-8")), name):
            where = where.replace(".__init__", "")
            found = parser.get_doctest(text, {"__name__": "__main__"}, where, str(path), None)
            if found.examples:
                yield found


def _exported(room: ModuleType) -> Iterator[tuple[str, object]]:
    """Functions and classes that a room defines on its face, or exports by ``as``."""
    for node in ast.parse(inspect.getsource(room)).body:
        names = [getattr(node, "name", "_")]
        if isinstance(node, ast.ImportFrom):
            names = [alias.asname for alias in node.names if alias.asname]
        for name in names:
            value = getattr(room, name, None)
            if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
                yield f"{room.__name__}.{name}", value


def test_every_public_name_has_an_example():
    public = {}
    for name in gf.__all__:
        value = getattr(gf, name)
        if inspect.ismodule(value):
            public |= dict(_exported(value))
        elif callable(value):
            public[f"gradflow.{name}"] = value
    assert len(public) > 80  # or the rule would look at nothing
    lacking = [name for name, value in public.items() if ">>>" not in (value.__doc__ or "")]
    assert not lacking, f"without an example: {', '.join(lacking)}"


@pytest.fixture
def _standard_promotion():
    """As users have it, on every thread."""
    before = jax.config.jax_numpy_dtype_promotion  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    yield
    jax.config.update("jax_numpy_dtype_promotion", before)


@pytest.mark.usefixtures("_standard_promotion")
@pytest.mark.parametrize("example", list(_examples()), ids=lambda example: example.name)
def test_example(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=told.append)
    assert not told, "".join(told)
