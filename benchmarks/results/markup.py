"""HTML and SVG put together so that no text can become markup by accident.

``element`` escapes every string it is given, unless an ``element`` made it.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TypeAlias

__all__ = ["Child", "Markup", "element", "folded", "joined", "scrolled", "table"]

_VOID = {"br", "hr", "link", "meta"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"


def element(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """An element. Attributes: ``class_`` is class, ``text_anchor`` text-anchor; None leaves out."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        parts.append(f" {key.rstrip('_').replace('_', '-')}")
        if value is not True:
            text = f"{value:.5g}" if isinstance(value, float) else str(value)
            # A line break would be a space to whoever reads it as XML.
            parts.append('="' + escape(text).replace("\n", "&#10;") + '"')
    parts.append(">")
    if name not in _VOID:
        parts += [joined(children), f"</{name}>"]
    return Markup("".join(parts))


def joined(children: Iterable[Child]) -> Markup:
    """Children one after the other, each escaped as it needs."""
    parts = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, str):
            parts.append(child if isinstance(child, Markup) else escape(child))
        else:
            parts.append(joined(child))
    return Markup("".join(parts))


def table(
    rows: Iterable[Sequence[Child]], head: Sequence[Child] = (), class_: str | None = None
) -> Markup:
    """A table of which the first cell of each row says what the row is about."""
    columns = element("tr", [element("th", cell, scope="col") for cell in head])
    body = [
        element("tr", element("th", first, scope="row"), [element("td", cell) for cell in cells])
        for first, *cells in rows
    ]
    return element(
        "table",
        element("thead", columns) if head else None,
        element("tbody", body),
        class_=class_,
    )


def scrolled(child: Child) -> Markup:
    """Something that may be wider than the page, with keys or fingers too."""
    return element("div", child, class_="scroll", tabindex=0)


def folded(summary: str, child: Child) -> Markup:
    """Something that is shown when asked for."""
    return element("details", element("summary", summary), scrolled(child))
