"""A page as a tree of elements: whatever stands in it is escaped, and every tag is closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree

Element = ElementTree.Element
Content = str | Element | None

# fmt: off
_BLOCKS = frozenset((
    "body", "details", "dd", "div", "dl", "dt", "figcaption", "figure", "h1", "h2", "h3", "head",
    "header", "li", "main", "meta", "p", "section", "style", "summary", "table", "tbody", "td",
    "th", "thead", "title", "tr", "ul",
))
# fmt: on


def tag(name: str, /, *contents: Content, **attributes: str) -> Element:
    """An element; of its contents ``None`` is left out.

    An underscore ends the names of attributes that Python has a use for, as of ``class_``, and
    stands for a hyphen within others.

    >>> from gradflow.report.html import tag, text
    >>> text(tag("p", "less is ", tag("b", "<"), " more", class_="small"))
    '<p class="small">less is <b>&lt;</b> more</p>\\n'
    """
    names = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    element = Element(name, names)
    if name in _BLOCKS:
        element.tail = "\n"  # a line each, where that shows nowhere
    for content in contents:
        if isinstance(content, str):
            if len(element):
                element[-1].tail = (element[-1].tail or "") + content
            else:
                element.text = (element.text or "") + content
        elif content is not None:
            element.append(content)
    return element


def text(element: Element) -> str:
    """The element as HTML."""
    return ElementTree.tostring(element, encoding="unicode", method="html")


def section(title: str, *contents: Content) -> Element | None:
    """Contents under a heading; ``None`` without any."""
    there = [content for content in contents if content is not None]
    return tag("section", tag("h2", title), *there) if there else None


def scrolled(content: Element, label: str) -> Element:
    """What may be wider than a phone: it is moved within its own frame, also by the keyboard."""
    return tag("div", content, class_="wide", role="region", aria_label=label, tabindex="0")


def table(
    caption: str, heading: Sequence[str], rows: Iterable[Sequence[Content]], numeric: int = 0
) -> Element | None:
    """A table, the last `numeric` columns of which are numbers; ``None`` without rows."""

    def cells(name: str, row: Sequence[Content]) -> list[Element]:
        first = len(row) - numeric
        return [
            tag(name, cell, class_="number") if i >= first else tag(name, cell)
            for i, cell in enumerate(row)
        ]

    body = [tag("tr", *cells("td", row)) for row in rows]
    if not body:
        return None
    head = cells("th", heading)
    for cell in head:
        cell.set("scope", "col")
    whole = tag(
        "table", tag("caption", caption), tag("thead", tag("tr", *head)), tag("tbody", *body)
    )
    return scrolled(whole, caption)


def definitions(terms: Mapping[str, Content], look: str = "") -> Element | None:
    """A list of names and what they are, without those that are nothing; ``None`` without any."""
    pairs = [
        tag("div", tag("dt", name), tag("dd", content))
        for name, content in terms.items()
        if content is not None
    ]
    return tag("dl", *pairs, class_=look) if pairs else None


def folded(title: str, content: str) -> Element:
    """A text as it is, folded away until asked for."""
    return tag(
        "details",
        tag("summary", title),
        scrolled(tag("pre", tag("code", content)), title),
    )


def page(title: str, style: str, *contents: Content) -> str:
    """A whole document in English, for which nothing else is loaded."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", style),
    )
    whole = tag("html", head, tag("body", tag("main", *contents)), lang="en")
    return f"<!DOCTYPE html>\n{text(whole)}\n"
