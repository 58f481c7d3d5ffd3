"""Where in a configuration a value is a sweep."""

from __future__ import annotations

from collections.abc import Iterator

from ._yaml import Node

SWEEP = "sweep"
Path = tuple[str, ...]
# The arguments of a user's own function, one of which may have that name.
_ARGUMENTS = ("problem", "args")


def sweeps(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """The mappings that stand for several values, with their paths, in the order of the file.

    Such a mapping has the key ``sweep``; what stands inside is its own.
    """
    if isinstance(node.content, dict):
        if path and path != _ARGUMENTS and SWEEP in node.content:
            yield path, node
            return
        for key, below in node.content.items():
            yield from sweeps(below, (*path, key))
    elif isinstance(node.content, list):
        for i, below in enumerate(node.content):
            yield from sweeps(below, (*path, str(i)))
