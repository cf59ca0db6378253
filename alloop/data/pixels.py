"""Pixels at the size that training and scoring use; those of image files are kept in the cache folder."""

import hashlib
import json

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image as PillowImage

from alloop.data.cache_folder import CacheFolder
from alloop.data.images import DECODER, FolderImages, ImageSource
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
    """Images at the size that training and scoring use. It may be read from several threads.

    An image file is decoded once, and its pixels are kept under the hash of the file, the size and the decoder. What
    is not kept is decoded at every read, which gives the same pixels.
    """

    def __init__(
        self,
        source: ImageSource,
        short_side: int,
        long_side: int,
        kept: CacheFolder | None = None,
        *,
        reduced: bool = True,
    ) -> None:
        """Read nothing yet.

        Args:
            source: the images.
            short_side: see `scaled_size`, as for `long_side`.
            long_side: in pixels.
            kept: where the pixels of image files are kept; None decodes them at every read.
            reduced: decode large JPEG files at a reduced size, see `alloop.data.images.decoded_at`.
        """
        self.source, self.long_side = source, long_side
        self._short_side, self._kept, self._reduced = short_side, kept, reduced
        self._compared: set[ImageId] = set()

    def size(self, image_id: ImageId) -> tuple[int, int]:
        """Return (width, height) of the scaled image."""
        record = self.source.records[image_id]
        return scaled_size(record.width, record.height, self._short_side, self.long_side)

    def box_scale(self, image_id: ImageId) -> Float32[np.ndarray, "4"]:
        """Return the factors that turn an xyxy box of the image as displayed into one of the scaled image."""
        record = self.source.records[image_id]
        return box_scale((record.width, record.height), self.size(image_id))

    def key(self, image_id: ImageId) -> str:
        """Return a hash of everything that determines the pixels; a file whose hash was recorded is not read for it."""
        recorded = self.source.expected.get(image_id) if isinstance(self.source, FolderImages) else None
        record = self.source.records[image_id]
        declared = (record.width, record.height)  # a file that shows another size is refused
        content = recorded or self.source.sha256(image_id)
        parts = ["pixels", DECODER, self._reduced, content, declared, self.size(image_id)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def refuse_changed(self, image_id: ImageId) -> None:
        """Compare a file with its recorded hash, once, for who uses what was made of its pixels before.

        Raises:
            DamagedFileError: the file is not the one that was recorded.
        """
        if isinstance(self.source, FolderImages) and image_id not in self._compared:
            self.source.verified(image_id)
            self._compared.add(image_id)

    def read(self, image_id: ImageId) -> UInt8[np.ndarray, "h w 3"]:
        """Return the pixels at the scaled size; they must not be changed.

        Raises:
            DataError: the image cannot be read.
            DamagedFileError: the file is not the one that was recorded. It is compared when this object first reads
                the image, also where pixels are kept.
        """
        if not isinstance(self.source, FolderImages):
            return resized(self.source.read(image_id), *self.size(image_id))
        data = None if image_id in self._compared else self.source.verified(image_id)
        self._compared.add(image_id)
        if self._kept is None:
            return self._decoded(self.source, image_id, data)
        key = self.key(image_id)
        pixels = self._kept.get(key)
        if pixels is not None:
            width, height = self.size(image_id)
            return np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3)
        decoded = self._decoded(self.source, image_id, data)
        self._kept.put(key, [decoded.data.cast("B")])
        return decoded

    def _decoded(self, source: FolderImages, image_id: ImageId, data: bytes | None) -> UInt8[np.ndarray, "h w 3"]:
        data = source.verified(image_id) if data is None else data
        return source.decode_at(image_id, data, self.size(image_id), reduced=self._reduced)
