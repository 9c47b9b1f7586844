"""HTML by functions: what is not `Html` already is escaped, wherever it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"br", "col", "hr", "img", "meta"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = Html | str | int | float | None


def element(name: str, /, *children: Child | Iterable[Child], **attributes: object) -> Html:
    """An element; children and attribute values are escaped.

    Parameters
    ----------
    name : str
    *children : Html, str or number, or iterables of these
        None is left out.
    **attributes
        A trailing underscore is dropped, others become hyphens; None is left out.

    Examples
    --------
    >>> element("p", "a < b ", element("b", 3), class_="x")
    '<p class="x">a &lt; b <b>3</b></p>'
    """
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{words}>")
    return Html(f"<{name}{words}>{joined(children)}</{name}>")


def joined(children: Iterable[Child | Iterable[Child]], between: str = "") -> Html:
    """Children one after the other, escaped where they are not `Html`."""
    return Html(between.join(_text(child) for child in children if child is not None))


def table(header: Iterable[Child], rows: Iterable[Iterable[Child]], caption: str) -> Html:
    """A table whose first column heads its rows, in a box that scrolls by keyboard too."""
    head = element("tr", (element("th", cell, scope="col") for cell in header))
    body = []
    for row in rows:
        first, *others = row
        cells = (element("td", cell) for cell in others)
        body.append(element("tr", element("th", first, scope="row"), cells))
    inner = element(
        "table", element("caption", caption), element("thead", head), element("tbody", body)
    )
    return scrolling(inner, caption)


def scrolling(content: Html, label: str) -> Html:
    """A box that scrolls sideways where the page is too narrow for its content."""
    return element("div", content, class_="scroll", role="region", tabindex=0, aria_label=label)


def _text(child: Child | Iterable[Child]) -> str:
    if isinstance(child, Html):
        return str(child)
    if isinstance(child, str | int | float):
        return escape(str(child), quote=False)
    return joined(child or ())
