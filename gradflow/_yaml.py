"""YAML that remembers where every key and every value stands.

Scalars resolve as in YAML 1.2: ``1e-8`` is a number, ``no`` is text, ``1:30`` is not ninety.
Whatever is wrong becomes a `Fault`, and reading goes on as far as it can, so that a user sees
all faults at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import yaml
from yaml.reader import ReaderError

Scalar = str | int | float | bool | None

_TAG = "tag:yaml.org,2002:"
_KNOWN_TAGS = {"map", "seq", "str", "null", "bool", "int", "float", "merge"}
_DEEPEST = 50  # levels; pydantic's JSON reader gives up at 200
_LARGEST = 100_000  # values, counted after aliases are expanded
_SHOWN = 40  # characters


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong with a configuration.

    ``str(fault)`` is the line ``FILE:LINE:COL: key.path: what is wrong; what is allowed``,
    without ``key.path: `` where no key is concerned. Lines and columns count from 1.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: "
        return place + (f"{self.path}: " if self.path else "") + self.message


class Mark(NamedTuple):
    """A position in a file, or in the override ``override-N``; it counts from 1."""

    file: str
    line: int
    column: int


@dataclass
class Node:
    """A value of the document, and where it and the key that holds it stand.

    `text` is a scalar as it was written. The root and the items of a list have no key:
    their `key` is their own position.
    """

    key: Mark
    mark: Mark
    content: dict[str, Node] | list[Node] | Scalar
    text: str = ""

    @property
    def where(self) -> Mark:
        """Where to point for this value: one that stands on a later line is shown at its key."""
        return self.mark if self.mark[:2] == self.key[:2] else self.key

    def plain(self) -> object:
        """The value without positions: dicts, lists and scalars."""
        if isinstance(self.content, dict):
            return {key: node.plain() for key, node in self.content.items()}
        if isinstance(self.content, list):
            return [node.plain() for node in self.content]
        return self.content


def read(
    path: str | PathLike[str], overrides: Sequence[str] = ()
) -> tuple[Node | None, list[Fault]]:
    """Read the YAML file `path`, then apply the overrides ``key.path=value`` in turn.

    An override creates the mappings it needs and replaces what it finds, a null included. It
    does not reach into a list: that is given as a whole. Anchors, aliases and merge keys work.

    Returns:
        the root mapping, or None where there is none to go on with, and every fault found.
    """
    builder = _Builder()
    root = builder.read(path)
    for number, text in enumerate(overrides, start=1):
        builder.override(root, f"override-{number}", text)
    return root, list(builder.faults.values())


def write(value: object) -> str:
    """YAML text of plain values, in the order given, which `read` reads back as the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def shorten(text: str) -> str:
    """`text`, cut to some 40 characters."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def quote(text: str) -> str:
    """`text` in quotes, on one line, cut to some 40 characters."""
    return repr(shorten(text))


def show_path(parts: Sequence[str]) -> str:
    """The parts joined by dots, an odd one in quotes."""
    return ".".join(
        part if part.isprintable() and part and not set(part) & set(" .:=") else quote(part)
        for part in parts
    )


# By PyYAML's convention the key None holds the patterns that are tried on every scalar.
_RESOLVERS = {
    None: [
        (_TAG + name, re.compile(rf"(?:{pattern})\Z"))
        for name, pattern in {
            "null": r"~|null|Null|NULL|",
            "bool": r"true|True|TRUE|false|False|FALSE",
            "int": r"[-+]?[0-9]+",
            "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
            r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
            "merge": r"<<",
        }.items()
    ]
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _RESOLVERS


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _RESOLVERS

    def _str(self, data: str) -> yaml.Node:
        # Only in double quotes does PyYAML keep every line break as it is.
        return self.represent_scalar(f"{_TAG}str", data, None if data.isprintable() else '"')

    def _list(self, data: list[object]) -> yaml.Node:
        leaves = not any(isinstance(item, dict | list) for item in data)
        return self.represent_sequence(f"{_TAG}seq", data, flow_style=leaves)


_Dumper.add_representer(str, _Dumper._str)
_Dumper.add_representer(list, _Dumper._list)

# PyYAML's words, and ours.
_SYNTAX = {
    "mapping values are not": "a ':' cannot stand here; allowed: one a line, others in quotes",
    "could not find expected ':'": "a key without its ':'; allowed: 'key: value'",
    "expected <block end>": "this does not fit what stands above; allowed: the same indentation",
    "found unexpected end of stream": "a quote is not closed; allowed: quotes in pairs",
    "expected ',' or": "a bracket is not closed, or a comma is missing; allowed: [1, 2], {a: 1}",
    "found undefined alias": "an alias without its anchor; allowed: *name after &name",
    "cannot start any token": "text cannot begin like this; allowed: quotes around it",
    "found another document": "a second document; allowed: one in a file",
}
# Noticed by PyYAML below the place where it began.
_LATE = ("could not find expected ':'", "found unexpected end of stream", "expected ',' or")


@dataclass
class _UnreadableError(Exception):
    """Nothing can be made of this text: where, and why."""

    mark: Mark
    message: str


def _mark(file: str, text: str, index: int) -> Mark:
    before = text[:index]
    return Mark(file, before.count("\n") + 1, index - before.rfind("\n"))


def _load_text(path: str) -> str:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        reason = str(error.strerror or "input error").lower()
        message = f"cannot be read, {reason}; allowed: a YAML file"
        raise _UnreadableError(Mark(path, 1, 1), message) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mark = _mark(path, data.decode("latin-1"), error.start)
        raise _UnreadableError(mark, "not text in UTF-8; allowed: a YAML file in UTF-8") from None


def _compose(text: str, file: str) -> yaml.Node | None:
    """The tree of nodes, None for an empty text; `_UnreadableError` where the text is not YAML."""
    try:
        return _Loader(text).get_single_node()
    except ReaderError as error:
        message = f"an unprintable character (U+{ord(text[error.position]):04X}); allowed: text"
        raise _UnreadableError(_mark(file, text, error.position), message) from None
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, text, file) from None
    except RecursionError:
        message = f"nested too deeply; allowed: {_DEEPEST} levels"
        raise _UnreadableError(Mark(file, 1, 1), message) from None


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> _UnreadableError:
    problem = error.problem or "unreadable"
    message = next((ours for theirs, ours in _SYNTAX.items() if theirs in problem), None)
    late = any(words in problem for words in _LATE)
    at = (late and error.context_mark) or error.problem_mark
    line, column = (at.line, at.column) if at else (0, 0)
    written = "".join(text.split("\n")[line : line + 1])
    indent = written[: len(written) - len(written.lstrip())]
    if "\t" in indent + written[column : column + 1]:
        column = indent.find("\t") if "\t" in indent else column
        message = "a tab; allowed: spaces, to indent and to separate"
    return _UnreadableError(
        Mark(file, line + 1, column + 1), message or f"{problem}; allowed: valid YAML"
    )


def _scalar(node: yaml.ScalarNode) -> Scalar:
    """The value of a scalar; ValueError where it has none."""
    text = node.value
    match node.tag.removeprefix(_TAG):
        case "str" | "merge":
            text.encode()  # "\ud800" in quotes is half a character
            return text
        case "null":
            return None
        case "bool":
            return {"true": True, "false": False}[text.lower()]
        case "int":
            return int(text)
        case _:
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


class _Builder:
    """Turns PyYAML's nodes into ours, and collects the faults on the way."""

    def __init__(self) -> None:
        # By place and message: a fault inside an anchor is told once, however often it is used.
        self.faults: dict[tuple[Mark, str], Fault] = {}
        self._file = ""
        self._open: list[yaml.Node] = []  # the collections around the present value
        self._left = _LARGEST  # values that may still come

    def fault(self, mark: Mark, path: Sequence[str], message: str) -> None:
        self.faults.setdefault((mark, message), Fault(*mark, show_path(path), message))

    def read(self, path: str | PathLike[str]) -> Node | None:
        file = str(path)
        try:
            text = _load_text(file)
        except _UnreadableError as error:
            return self.fault(error.mark, (), error.message)
        root = self._root(text, file, (), None)
        if root is None or isinstance(root.content, dict):
            return root
        if not self.faults:
            what = "no 'key: value' at the top" if root.text or root.content else "an empty file"
            self.fault(root.mark, (), f"{what}; allowed: a mapping of keys")
        return None

    def override(self, root: Node | None, file: str, text: str) -> None:
        """Apply ``key.path=value``; without a root, only look for what is wrong with it."""
        name, equals, value = text.partition("=")
        if not equals:
            message = f"no '=' in {quote(text)}; allowed: key.path=value"
            return self.fault(Mark(file, 1, 1), (), message)
        path = name.split(".")
        columns = [1 + sum(len(part) + 1 for part in path[:i]) for i in range(len(path))]
        keys = [Mark(file, 1, column) for column in columns]
        odd = [i for i, part in enumerate(path) if not (part and part.isprintable())]
        if odd:
            message = f"an empty or unprintable key in {quote(text)}; allowed: key.path=value"
            return self.fault(keys[odd[0]], (), message)
        # Blanks for the key put every mark in its true column.
        leaf = self._root(" " * (len(name) + 1) + value, file, path, keys[-1])
        if leaf and root:
            self._place(root, path, keys, leaf)

    def _root(self, text: str, file: str, path: Sequence[str], key: Mark | None) -> Node | None:
        """What the text holds, null if it is empty; None where it cannot be read."""
        self._file, self._open, self._left = file, [], _LARGEST
        try:
            raw = _compose(text, file)
            if raw:
                return self._node(raw, path, key)
            start = key or Mark(file, 1, 1)
            return Node(start, start, None)
        except _UnreadableError as error:
            return self.fault(error.mark, path, error.message)

    def _place(self, node: Node, path: list[str], keys: list[Mark], leaf: Node) -> None:
        for depth, (part, key) in enumerate(zip(path, keys, strict=True)):
            if node.content is None:
                node.content = {}
                node.key = node.mark = keys[depth - 1]
            if not isinstance(node.content, dict):
                what = "a list" if isinstance(node.content, list) else "a single value"
                whole = f"{show_path(path[:depth])}=..., as a whole"
                message = f"{what} has no key {quote(part)}; allowed: {whole}"
                return self.fault(keys[depth - 1], path[:depth], message)
            if depth + 1 == len(path):
                node.content[part] = leaf
            else:
                node = node.content.setdefault(part, Node(key, key, None))

    def _mark(self, raw: yaml.Node) -> Mark:
        return Mark(self._file, raw.start_mark.line + 1, raw.start_mark.column + 1)

    def _node(self, raw: yaml.Node, path: Sequence[str], key: Mark | None) -> Node:
        mark = self._mark(raw)
        node = Node(key or mark, mark, None)
        self._left -= 1
        if self._left == 0:
            raise _UnreadableError(mark, f"too many values; allowed: {_LARGEST}")
        trouble = self._trouble(raw)
        if trouble:
            self.fault(node.where, path, trouble)
            return node
        if isinstance(raw, yaml.ScalarNode):
            node.text = raw.value
            try:
                node.content = _scalar(raw)
            except (ValueError, KeyError):
                message = f"cannot read {quote(raw.value)}; allowed: text, numbers, true, false"
                self.fault(node.where, path, message)
            return node
        self._open.append(raw)
        if isinstance(raw, yaml.SequenceNode):
            items = enumerate(raw.value)
            node.content = [self._node(item, (*path, str(i)), None) for i, item in items]
        elif isinstance(raw, yaml.MappingNode):
            node.content = self._mapping(raw, path)
        self._open.pop()
        return node

    def _trouble(self, raw: yaml.Node) -> str:
        """Why this value cannot be taken, before looking inside."""
        if raw in self._open:
            return "an anchor that holds itself; allowed: values that end"
        if len(self._open) >= _DEEPEST:
            return f"nested too deeply; allowed: {_DEEPEST} levels"
        if raw.tag.removeprefix(_TAG) not in _KNOWN_TAGS:
            return f"the tag {quote(raw.tag.replace(_TAG, '!!'))}; allowed: values without a tag"
        return ""

    def _mapping(self, raw: yaml.MappingNode, path: Sequence[str]) -> dict[str, Node]:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        first: dict[str, Mark] = {}
        for raw_key, raw_value in raw.value:
            key, name = self._mark(raw_key), self._key(raw_key, path)
            if name is None:
                continue
            if name in first:
                before = f"line {first[name].line}, column {first[name].column}"
                message = f"the key stands here and at {before}; allowed: each key once"
                self.fault(key, (*path, name), message)
                continue
            first[name] = key
            value = self._node(raw_value, (*path, name), key)
            if raw_key.tag == f"{_TAG}merge":
                self._merge(merged, value, path)
            else:
                own[name] = value
        return own | {name: node for name, node in merged.items() if name not in own}

    def _key(self, raw: yaml.Node, path: Sequence[str]) -> str | None:
        if isinstance(raw, yaml.ScalarNode) and raw.tag in (f"{_TAG}str", f"{_TAG}merge"):
            with suppress(ValueError):
                return str(_scalar(raw))
        what = quote(raw.value) if isinstance(raw, yaml.ScalarNode) else "of this mapping"
        message = f"the key {what} is not text; allowed: text, quoted if need be"
        self.fault(self._mark(raw), path, message)
        return None

    def _merge(self, merged: dict[str, Node], value: Node, path: Sequence[str]) -> None:
        """Add the keys of what ``<<`` names; of two mappings the first counts."""
        for node in value.content if isinstance(value.content, list) else [value]:
            if isinstance(node.content, dict):
                for name, inner in node.content.items():
                    merged.setdefault(name, inner)
            elif not any(mark == node.where for mark, _ in self.faults):
                self.fault(node.where, (*path, "<<"), "nothing to merge; allowed: a mapping")
