"""An image as a small JPEG with boxes drawn into it."""

import io
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

_INK, _HALO = (255, 212, 0), (0, 0, 0)  # yellow on black stands out from any picture


def drawn(pixels: UInt8[np.ndarray, "h w 3"], boxes: Iterable[np.ndarray], side: int) -> bytes:
    """Return a JPEG whose long side has `side` pixels, with boxes drawn on it; they are xyxy in pixels of the image."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for box in boxes:
        x1, y1, x2, y2 = (float(corner) * scale for corner in box)
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=_HALO, width=4)
        draw.rectangle((x1, y1, x2, y2), outline=_INK, width=2)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80, subsampling=0)  # halved colour would smear the thin boxes
    return buffer.getvalue()
