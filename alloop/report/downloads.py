"""Links that save a table of the page as CSV and a drawing as SVG.

The file is part of its link, as a data URI. So the page needs no script for it, and no network.
"""

import re
from collections.abc import Sequence
from urllib.parse import quote

from markupsafe import Markup

from alloop.report.numbers import UNKNOWN
from alloop.tables import csv_text

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?( ?%| s)?")
_RANGE = re.compile(rf"{_NUMBER.pattern} to {_NUMBER.pattern}")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_UNQUOTED = " !()*,/:;=?@$+[]{}|"  # stay as they are in the URI, which makes it shorter


def csv_link(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """Return a link that saves a table as CSV."""
    text = csv_text([data_cell(head) for head in heads], [[data_cell(cell) for cell in row] for row in rows])
    without_heads = text if heads else text.partition("\n")[2]
    return _link("csv", "CSV", "text/csv;charset=utf-8", without_heads)


def data_cell(text: str) -> str:
    """Return a cell of a CSV; a program for tables takes no text for a formula, and every number for a number."""
    if text == UNKNOWN:
        return ""
    if text.startswith(_FORMULA) and not (_NUMBER.fullmatch(text) or _RANGE.fullmatch(text)):
        return f"'{text}"
    return text


def svg_link(drawing: str) -> Markup:
    """Return a link that saves a drawing as SVG, in black on white, as all viewers show it."""
    return _link("svg", "SVG", "image/svg+xml;charset=utf-8", standalone(drawing))


def standalone(drawing: str) -> str:
    """Return a drawing of the page as a file of its own; on the page, its text has the colour of the page."""
    opening = drawing.index(">") + 1
    white = '<rect width="100%" height="100%" fill="white"/>'
    return f"{drawing[:opening]}{white}{drawing[opening:]}".replace("currentColor", "black")


def _link(kind: str, label: str, media: str, content: str) -> Markup:
    uri = f"data:{media},{quote(content, safe=_UNQUOTED, errors='replace')}"
    what = "table" if kind == "csv" else "drawing"
    link = Markup('<a class="save" download="{}" title="Save this {} as {}" href="{}">{}</a>')
    return link.format(kind, what, label, uri, label)


def with_file_names(body: Markup, name: str) -> Markup:
    """Name the files of the links of one section: after the section, and numbered where there are several."""
    seen: dict[str, int] = {}

    def named(match: re.Match[str]) -> str:
        kind = match[1]
        seen[kind] = seen.get(kind, 0) + 1
        number = f"-{seen[kind]}" if seen[kind] > 1 else ""
        return f'<a class="save" download="{name}{number}.{kind}"'

    return Markup(re.sub('<a class="save" download="(csv|svg)"', named, body))  # noqa: S704  a name has letters alone
