"""Pydantic's errors as faults, each at its place in the file and in plain words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ._yaml import Fault, Mark, Node, quote, shorten, show_path

Schema = Mapping[str, Any]


class MisfitError(ValueError):
    """Parts that are right by themselves and do not fit together.

    Attributes:
        faults: what is wrong, with the path of the key to change, from the root of the file.
    """

    def __init__(self, faults: Sequence[tuple[tuple[str, ...], str]]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{show_path(path)}: {message}" for path, message in faults))


class _Place(NamedTuple):
    """Where an error belongs.

    `schema` is what holds for `node` as far as the error's location tells, and `whole` what
    holds whichever alternative of a union was meant. `rest` is the part of the location that
    leads nowhere: an absent key, or the label of an alternative that was perhaps not meant.
    """

    node: Node
    path: tuple[str, ...]
    schema: Schema
    whole: Schema
    rest: tuple[str | int, ...]


class Translator:
    """Turns pydantic's errors into faults.

    The JSON schema of the model tells which parts of an error's location are keys and which are
    the tags and labels that pydantic puts in for unions, and what is allowed at each place.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def faults(self, root: Node, error: ValidationError) -> list[Fault]:
        """One fault per error, except that the alternatives of a union share one."""
        exact: dict[Fault, tuple[str, ...]] = {}
        unsure: dict[Fault, tuple[str, ...]] = {}
        for detail in error.errors(include_url=False, include_input=False):
            place = self._find(root, detail["loc"])
            told = self._about_key(root, place, detail)
            reason = detail.get("ctx", {}).get("error")
            if isinstance(reason, MisfitError):
                for path, message in reason.faults:
                    exact[Fault(*self._find(root, path).node.where, show_path(path), message)] = (
                        path
                    )
                continue
            if told:
                mark, path, message = told
            elif detail["type"] in ("value_error", "assertion_error"):
                mark, path = place.node.where, place.path
                message = " ".join(str(reason).split())
            else:
                mark, path = place.node.where, place.path
                message = self._wrong(place.node, place.whole)
                if place.rest:
                    unsure[Fault(*mark, show_path(path), message)] = path
                    continue
            exact[Fault(*mark, show_path(path), message)] = path
        # A fault inside the one alternative that fits says more than that none does.
        return [*exact] + [
            fault
            for fault, path in unsure.items()
            if not any(other[: len(path)] == path for other in exact.values())
        ]

    def _about_key(
        self, root: Node, place: _Place, detail: ErrorDetails
    ) -> tuple[Mark, tuple[str, ...], str] | None:
        """Where and what, if a key is unknown or missing rather than a value wrong."""
        node, path, schema, _, rest = place
        keys: Schema = schema.get("properties", {})
        match detail["type"], rest:
            case "extra_forbidden", ():
                around = self._find(root, detail["loc"][:-1], within=True).schema
                near = nearest(path[-1], around["properties"])
                allowed = ", ".join(around["properties"])
                return node.key, path, f"unknown key {quote(path[-1])}; {near}allowed: {allowed}"
            case _, ("[key]",):
                around = self._find(root, detail["loc"][:-2]).schema
                key = Node(node.key, node.key, path[-1])
                return node.key, path, self._wrong(key, around.get("propertyNames", {}))
            case "missing", (str(key),) if key in keys:
                allowed = self._allowed(keys[key])
                return node.where, (*path, key), f"missing key '{key}'; allowed: {allowed}"
            case (("union_tag_not_found" | "union_tag_invalid"), ()):
                key = schema["discriminator"]["propertyName"]
                choices = {"enum": list(schema["discriminator"]["mapping"])}
                tag = node.content.get(key) if isinstance(node.content, dict) else None
                if tag:
                    return tag.where, (*path, key), self._wrong(tag, choices)
                message = f"missing key '{key}'; allowed: {self._allowed(choices)}"
                return node.where, (*path, key), message
        return None

    def _find(self, root: Node, location: Sequence[str | int], within: bool = False) -> _Place:
        """Follow the location of an error through the document and the schema at once.

        A label at the end of it is perhaps of an alternative that was not meant, unless the error
        lies `within` that.
        """
        node, path, rest = root, (), tuple(location)
        whole = schema = self._resolve(self._schema)
        while True:
            options = _options(schema)
            if len(options) == 1:
                schema = self._resolve(options[0])
                continue
            inner = _child(node, rest)
            if "discriminator" in schema and rest:
                schema = {"$ref": schema["discriminator"]["mapping"][str(rest[0])]}
            elif options:
                fitting = [option for option in options if self._fits(option, node)]
                if len(rest) < (1 if within else 2) or len(fitting) != 1:
                    break
                schema = fitting[0]
            elif inner:
                node, path = inner, (*path, str(rest[0]))
                whole = schema = _below(schema, rest[0])
            else:
                break
            schema, rest = self._resolve(schema), rest[1:]
        return _Place(node, path, schema, whole, rest)

    def _resolve(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self._schema["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        return schema

    def _fits(self, option: Schema, node: Node) -> bool:
        """Whether the alternative is a mapping or a list, as the value is."""
        option = self._resolve(option)
        if isinstance(node.content, dict):
            return option.get("type") == "object" or "discriminator" in option
        return isinstance(node.content, list) and option.get("type") == "array"

    def _wrong(self, node: Node, schema: Schema) -> str:
        near = ""
        if isinstance(node.content, str):
            near = nearest(node.content, self._choices(schema))
        return f"got {_shown(node)}; {near}allowed: {self._allowed(schema)}"

    def _choices(self, schema: Schema) -> list[str]:
        schema = self._resolve(schema)
        values = [*schema.get("enum", ()), schema.get("const")]
        inner = [word for option in _options(schema) for word in self._choices(option)]
        return inner + [value for value in values if isinstance(value, str)]

    def _allowed(self, schema: Schema) -> str:
        """What the schema allows, in plain words."""
        schema = self._resolve(schema)
        if "enum" in schema:
            return ", ".join(map(str, schema["enum"]))
        if "const" in schema:
            return str(schema["const"])
        if "discriminator" in schema:
            tags = ", ".join(schema["discriminator"]["mapping"])
            return f"a mapping with {schema['discriminator']['propertyName']}: {tags}"
        if "anyOf" in schema:
            return ", or ".join(self._allowed(option) for option in schema["anyOf"])
        match schema.get("type"):
            case "integer":
                return "a whole number" + _limits(schema)
            case "number":
                return "a finite number" + _limits(schema)
            case "string":
                return "text" + _limits(schema)
            case "boolean":
                return "true, false"
            case "null":
                return "null"
            case "array":
                items = schema.get("items")
                each = f", each {self._allowed(items)}" if items else ""
                return "a list" + _limits(schema) + each
            case "object":
                keys = ", ".join(schema.get("properties", ()))
                return "a mapping" + (f" with the keys {keys}" if keys else "")
        return "any value"


def _options(schema: Schema) -> list[Schema]:
    """The alternatives of a plain union, null left out; none where there is no choice."""
    if "discriminator" in schema:
        return []
    options = schema.get("anyOf") or schema.get("oneOf") or []
    return [option for option in options if option.get("type") != "null"]


def _child(node: Node, rest: Sequence[str | int]) -> Node | None:
    match node.content, [*rest[:1]]:
        case dict() as content, [str(key)]:
            return content.get(key)
        case list() as content, [int(index)] if index < len(content):
            return content[index]
    return None


def _below(schema: Schema, part: str | int) -> Schema:
    """What holds for this key of a mapping, or for this item of a list."""
    if isinstance(part, str):
        below = schema.get("properties", {}).get(part, schema.get("additionalProperties"))
    else:
        below = dict(enumerate(schema.get("prefixItems", ()))).get(part, schema.get("items"))
    return below if isinstance(below, dict) else {}


def _limits(schema: Schema) -> str:
    """The range of a number, or of the length of a text or list, with a blank before it."""
    if "minItems" in schema and schema["minItems"] == schema.get("maxItems"):
        return f" of exactly {schema['minItems']} items"
    words = {
        "minimum": "of at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "of at most {}",
        "exclusiveMaximum": "below {}",
        "multipleOf": "a multiple of {}",
        "minLength": "of {} or more characters",
        "maxLength": "of at most {} characters",
        "minItems": "of {} or more items",
        "maxItems": "of at most {} items",
    }
    said = [text.format(f"{schema[key]:.15g}") for key, text in words.items() if key in schema]
    return " " + " and ".join(said) if said else ""


def nearest(word: str, choices: Iterable[str]) -> str:
    """The choice that was perhaps meant, as a question with a blank behind it, or nothing."""
    lowered = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word.lower(), lowered, n=1)
    return f"did you mean {lowered[close[0]]!r}? " if close else ""


def _shown(node: Node) -> str:
    """What arrived, as it was written, on one line and not too long."""
    match node.content:
        case str() as text:
            return f"the text {quote(text)}"
        case dict():
            return f"the mapping {shorten(json.dumps(node.plain()))}"
        case list():
            return f"the list {shorten(json.dumps(node.plain()))}"
    return shorten(node.text) or "nothing"
