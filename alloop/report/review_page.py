"""What people have answered so far, as a page with pictures: one HTML file that loads nothing from elsewhere."""

import base64
from collections import Counter
from html import escape
from pathlib import Path

from alloop.files import atomic_write
from alloop.report.drawn_boxes import drawn
from alloop.results.review import Review, ReviewedImage
from alloop.tables import html

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


def write_review(review: Review, path: Path, name: str) -> None:
    """Write the page.

    Args:
        review: what came back.
        path: the HTML file.
        name: how the title calls the run.

    Raises:
        DataError: an image that cannot be read.
    """
    page = _PAGE.format(
        title=f"{escape(name)}: round {review.round}",
        lines=html(*review.lines()),
        pictures="\n".join(_figure(review, image) for image in review.images),
        table=html(review.table()),
    )
    atomic_write(path, page.encode(errors="backslashreplace"))


def _figure(review: Review, image: ReviewedImage) -> str:
    """Return the picture of an image with the boxes that came back, or else those that people are shown."""
    came, shown = image.answer.annotations, image.request.pre_annotations
    boxes = came if came is not None else shown
    pixels = review.pool.images.read(image.request.image_id)
    picture = base64.b64encode(drawn(pixels, [] if boxes is None else boxes.boxes, SIDE)).decode()
    counts = Counter([] if boxes is None else boxes.labels.tolist())
    classes = ", ".join(f"{review.class_names[label]} {number}" for label, number in sorted(counts.items()))
    what = "came back" if came is not None else "predicted" if shown is not None else "no boxes yet"
    caption = f"{image.file_name}: {image.answer.state}; {what}{': ' if classes else ''}{classes}"
    if image.answer.remark:
        caption += f" ({image.answer.remark})"
    image_tag = f'<img src="data:image/jpeg;base64,{picture}" alt="">'
    return f"<figure>{image_tag}<figcaption>{escape(caption)}</figcaption></figure>"
