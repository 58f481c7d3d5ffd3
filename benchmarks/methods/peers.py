"""Which of the packages that gradflow is measured against are installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from .method import Method


def absence(*packages: str) -> str:
    """What to say of what needs `packages`; empty where all of them are installed.

    None of them is imported, which takes seconds.
    """
    absent = [package for package in packages if find_spec(package) is None]
    if not absent:
        return ""
    verb = "is" if len(absent) == 1 else "are"
    return f"{' and '.join(absent)} {verb} not installed: pip install 'gradflow[bench]'"


def gathered(rooms: Iterable[Any]) -> tuple[dict[str, Method], dict[str, str]]:
    """The methods that can be run, and of all others why they cannot, by name.

    Args:
        rooms: modules with ``METHODS``, and with ``NEEDS`` where these want packages that
            gradflow itself does not.
    """
    methods: dict[str, Method] = {}
    missing: dict[str, str] = {}
    for room in rooms:
        reason = absence(*getattr(room, "NEEDS", ()))
        for method in room.METHODS:
            if reason:
                missing[method.name] = reason
            else:
                methods[method.name] = method
    return methods, missing
