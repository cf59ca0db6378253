"""A small picture of an image with boxes drawn over it, which tell their class at the pointer."""

import base64
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup
from PIL import Image

SIDE = 176  # pixels of the long side
MOST_LABELS = 8  # boxes of a picture that have their class written beside them; of more, the pointer shows it
MOST_CLASSES = 3  # that are counted below a picture
LONGEST_LABEL = 16  # letters
LONGEST_NAME = 40
LETTER = 5.0  # pixels, about

_FRAME = Markup(
    '<div class="picture"><div><img src="{}" alt="{}">'
    '<svg viewBox="0 0 {} {}" aria-hidden="true">{}</svg></div>{}</div>'
)
_BOX = Markup(
    '<g class="{}"><title>{}</title><rect class="halo" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
    '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>{}</g>'
)


@dataclass(frozen=True, slots=True)
class PictureBox:
    """A box over a picture.

    Attributes:
        corners: xyxy in pixels of the image.
        text: its class, and its score where it is a detection.
        kind: `true`, or `right` and `wrong` for a detection; the name of its CSS class.
    """

    corners: Sequence[float]
    text: str
    kind: str = "true"


@dataclass(frozen=True, slots=True)
class Picture:
    """One image.

    Attributes:
        thumbnail: a JPEG, and its size.
        boxes: what is drawn over it.
        name: the name of its file.
        lines: what stands below it.
        text: the text for readers who do not see the picture.
    """

    thumbnail: "Thumbnail"
    boxes: tuple[PictureBox, ...]
    name: str
    lines: tuple[str, ...]
    text: str

    def __html__(self) -> str:
        """Return the picture as HTML; jinja2 and markupsafe call this."""
        width, height = self.thumbnail.size
        labels = len(self.boxes) <= MOST_LABELS
        boxes = Markup().join(_box(box, self.thumbnail, labels=labels) for box in self.boxes)
        name = Markup('<b title="{}">{}</b>').format(self.name, shortened(self.name))
        caption = Markup("<br>").join([name, *self.lines])
        return _FRAME.format(self.thumbnail.uri, self.text, width, height, boxes, caption)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A JPEG as data URI, its width and height, and how many of its pixels a pixel of the image is."""

    uri: str
    size: tuple[int, int]
    scale: float


def thumbnail(pixels: UInt8[np.ndarray, "h w 3"], side: int = SIDE) -> Thumbnail:
    """Return a small JPEG whose long side has `side` pixels."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(buffer, format="JPEG", quality=80)
    return Thumbnail(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", size, scale)


def shortened(name: str) -> str:
    """Return the last part of a path, and only the end of it where it is long."""
    last = PurePosixPath(name).name or name
    return last if len(last) <= LONGEST_NAME else f"…{last[-LONGEST_NAME:]}"


def counted_boxes(boxes: Iterable[object]) -> str:
    """Return the number of boxes in words."""
    number = len(list(boxes))
    return f"{number} box{'' if number == 1 else 'es'}"


def counted_classes(boxes: Iterable[PictureBox]) -> tuple[str, ...]:
    """Return in one line how many boxes each class has, the most frequent ones; none without boxes."""
    counts = Counter(box.text for box in boxes).most_common()
    listed = ", ".join(f"{name}: {number}" for name, number in counts[:MOST_CLASSES])
    return (f"{listed}{', …' if len(counts) > MOST_CLASSES else ''}",) if counts else ("no box",)


def _box(box: PictureBox, image: Thumbnail, *, labels: bool) -> Markup:
    """Return one box as SVG; it is drawn inside the picture also where it leaves the image."""
    width, height = image.size
    x1, y1, x2, y2 = (float(corner) * image.scale for corner in box.corners)
    x1, x2 = (min(max(x, 1.0), width - 1.0) for x in sorted((x1, x2)))
    y1, y2 = (min(max(y, 1.0), height - 1.0) for y in sorted((y1, y2)))
    place = (x1, y1, x2 - x1, y2 - y1)
    return _BOX.format(box.kind, box.text, *place, *place, _label(box.text, x1, y1, x2, width) if labels else "")


def _label(text: str, x1: float, y1: float, x2: float, width: int) -> Markup:
    """Return the class beside a box: above it where there is room, and never beyond the right side."""
    short = text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
    beyond = x1 + LETTER * len(short) > width
    anchor = Markup(' text-anchor="end"') if beyond else Markup()
    return Markup('<text x="{:.1f}" y="{:.1f}"{}>{}</text>').format(
        max(x2, LETTER * len(short)) if beyond else x1, y1 - 3 if y1 > 12 else y1 + 10, anchor, short
    )
