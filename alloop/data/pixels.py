"""Pixels at the size that training and scoring use, each image decoded once."""

import tempfile
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image as PillowImage

from alloop.data.images import ImageSource
from alloop.geometry.boxes import box_scale
from alloop.values import ImageId


def scaled_size(width: int, height: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Return (width, height) after scaling to the short side, or to the long side where that would be exceeded."""
    scale = min(short_side / min(width, height), long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def resized(pixels: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Resize bilinearly with antialiasing."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(PillowImage.fromarray(pixels).resize((width, height), PillowImage.Resampling.BILINEAR))


class PixelCache:
    """Images at the size that training and scoring use, each decoded once.

    The pixels lie in an unnamed scratch file, so the page cache decides how much of it stays in
    memory and the process never holds more than it uses. Images beyond `limit` bytes are decoded on every read.
    """

    def __init__(
        self, source: ImageSource, image_ids: Sequence[ImageId], short_side: int, long_side: int, limit: int
    ) -> None:
        """Reserve space for as many images as fit; nothing is read yet."""
        self.source, self.long_side = source, long_side
        self._short_side = short_side
        self._slots: dict[ImageId, tuple[int, int, int]] = {}  # offset in bytes, width, height
        self._filled: set[ImageId] = set()
        offset = 0
        for image_id in image_ids:
            width, height = self.size(image_id)
            if offset + 3 * width * height > limit:
                break
            self._slots[image_id] = (offset, width, height)
            offset += 3 * width * height
        with tempfile.TemporaryFile(prefix="alloop-pixels-") as scratch:  # the map keeps it alive
            scratch.truncate(max(1, offset))
            self._memory = np.memmap(scratch, dtype=np.uint8, mode="r+", shape=(max(1, offset),))

    def size(self, image_id: ImageId) -> tuple[int, int]:
        """Return (width, height) of the cached image."""
        record = self.source.records[image_id]
        return scaled_size(record.width, record.height, self._short_side, self.long_side)

    def box_scale(self, image_id: ImageId) -> Float32[np.ndarray, "4"]:
        """Return the factors that turn an xyxy box of the image as displayed into one of the cached image."""
        record = self.source.records[image_id]
        return box_scale((record.width, record.height), self.size(image_id))

    def read(self, image_id: ImageId) -> UInt8[np.ndarray, "h w 3"]:
        """Return the pixels at the cached size."""
        if image_id not in self._slots:
            return resized(self.source.read(image_id), *self.size(image_id))
        offset, width, height = self._slots[image_id]
        view = self._memory[offset : offset + 3 * width * height].reshape(height, width, 3)
        if image_id not in self._filled:
            view[:] = resized(self.source.read(image_id), width, height)
            self._filled.add(image_id)
        return view
