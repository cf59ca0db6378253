"""Details on hover: a text for each point of a drawing, as titles in its SVG, which browsers show without a script."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_MARKER = re.compile(r"<use ([^>]*)/>")


def hint(line: Any, texts: Sequence[str]) -> None:
    """Give each point of a matplotlib line with markers a text."""
    line.alloop_hints = tuple(texts)


def numbered(figure: Any, name: str) -> dict[str, tuple[str, ...]]:
    """Give each line that has texts an id in the SVG, and return the texts by id.

    Args:
        figure: a matplotlib figure.
        name: the name of the drawing, since an id occurs once in a page.
    """
    lines = figure.findobj(lambda artist: hasattr(artist, "alloop_hints"))
    for number, line in enumerate(lines):
        line.set_gid(f"{name}-points-{number}")
    return {line.get_gid(): line.alloop_hints for line in lines}


def with_hints(svg: str, texts: Mapping[str, Sequence[str]]) -> str:
    """Return an SVG of matplotlib in which the markers of lines have titles, in the order of the points."""
    for name, of_line in texts.items():
        start = svg.index(f'<g id="{name}">')
        end = svg.index("<g id=", start + 1) if "<g id=" in svg[start + 1 :] else len(svg)
        parts = _MARKER.split(svg[start:end])  # text, attributes of a marker, text, and so on
        marks = [
            f"<use {mark}><title>{escape(text)}</title></use>" for mark, text in zip(parts[1::2], of_line, strict=True)
        ]
        drawn = "".join(map("".join, zip(parts[::2], [*marks, ""], strict=True)))
        svg = svg[:start] + drawn + svg[end:]
    return svg
