"""Figures as SVG inside of a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from .html import Element, scrolled, tag
from .shown import Drawn

_PIXELS = 1.9  # for each point, where there is room: a figure's texts are as large as the page's
_PLACES = 2  # of coordinates, which are points
_REFERENCE = re.compile(r"(?<=#)([^)]+)")
_DECIMAL = re.compile(r"-?\d+\.\d+")


def inlined(drawn: Drawn) -> Element:
    """A drawn figure with its caption.

    Its inner names begin with its own, so that a page can have many of them.
    """
    figure = drawn.figure
    root = ElementTree.fromstring(drawn.files["svg"])
    used = {match for _, value in _references(root) for match in _REFERENCE.findall(value)}
    svg = _plain(root, figure.name, used)
    width = round(_PIXELS * float(root.get("viewBox", "").split()[2]))
    named = f"caption-{figure.name}"
    svg.attrib = {
        "viewBox": root.get("viewBox", ""),
        "role": "img",
        "aria-labelledby": named,
    }
    caption = tag("figcaption", tag("b", f"{figure.name}. "), figure.caption, id=named)
    return tag("figure", scrolled(svg, figure.name), caption, style=f"--width: {width}px")


def _references(root: Element) -> Iterator[tuple[str, str]]:
    """Attributes that name other elements."""
    for element in root.iter():
        for key, value in element.attrib.items():
            if "#" in value and (key.endswith("href") or value.startswith("url(")):
                yield key, value


def _plain(element: Element, prefix: str, used: set[str]) -> Element:
    """Without what HTML has no need of: namespaces, metadata, names that nothing refers to."""
    plain = Element(_local(element.tag))
    for key, value in element.attrib.items():
        key = _local(key)
        if key == "id":
            if value not in used:
                continue
            value = f"{prefix}-{value}"
        elif key == "d":
            value = " ".join(_DECIMAL.sub(_rounded, value).split())
        elif value.startswith(("#", "url(#")) and key != "style":
            value = value.replace("#", f"#{prefix}-")
        plain.set(key, value)
    for child in element:
        # A style of one figure would hold for the whole page, which has the same one.
        if isinstance(child.tag, str) and _local(child.tag) not in ("metadata", "title", "style"):
            plain.append(_plain(child, prefix, used))
    return plain


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _rounded(decimal: re.Match[str]) -> str:
    return f"{round(float(decimal[0]), _PLACES):g}"
