"""A page of pictures with boxes and a table: one HTML file that loads nothing from elsewhere."""

import base64
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from alloop.data.splits import Split
from alloop.files import atomic_write
from alloop.report.drawn_boxes import drawn
from alloop.tables import Table, html
from alloop.values import ImageId

SIDE = 420  # pixels of the long side of a picture
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 84rem; padding: 1.5rem 1rem 4rem; }}
h1 {{ font-size: 1.5rem; }}
p {{ max-width: 52rem; }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }}
figure {{ margin: 0; font-size: .85rem; line-height: 1.35; break-inside: avoid; overflow-wrap: anywhere; }}
figure img {{ width: 100%; height: auto; border-radius: 3px; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .6rem; border-bottom: 1px solid #8884; text-align: left; }}
</style></head><body>
<h1>{title}</h1>
{lines}
<div class="pictures">{pictures}</div>
<h2>All images</h2><div class="scroll">{table}</div>
</body></html>
"""


def write_pictures(path: Path, title: str, lines: Sequence[str], figures: Sequence[str], table: Table) -> None:
    """Write the page: a title, lines of text, figures as HTML, and a table of all images."""
    page = _PAGE.format(title=escape(title), lines=html(*lines), pictures="\n".join(figures), table=html(table))
    atomic_write(path, page.encode(errors="backslashreplace"))


def class_counts(labels: Sequence[int], class_names: Sequence[str]) -> str:
    """Return how many boxes each class has, after a colon; empty where there is no box."""
    counts = ", ".join(f"{number} x {class_names[label]}" for label, number in sorted(Counter(labels).items()))
    return f": {counts}" if counts else ""


def figure_of(pool: Split, image_id: ImageId, boxes: Iterable[np.ndarray], caption: str) -> str:
    """Return the picture of an image of a split as HTML, with boxes (xyxy in its pixels) and a caption."""
    picture = base64.b64encode(drawn(pool.images.read(image_id), boxes, SIDE)).decode()
    image_tag = f'<img src="data:image/jpeg;base64,{picture}" alt="">'
    return f"<figure>{image_tag}<figcaption>{escape(caption)}</figcaption></figure>"
