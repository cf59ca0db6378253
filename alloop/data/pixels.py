"""Pixels at the size that training and scoring use; those of image files are kept in the cache folder."""

import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image as PillowImage

from alloop.data.ahead import Ahead
from alloop.data.cache_folder import CacheFolder
from alloop.data.images import DECODER, FolderImages, ImageSource
from alloop.geometry.boxes import box_scale
from alloop.values import ImageId

Size = tuple[int, int]
"""(width, height) in pixels."""

Read = tuple[ImageId, Size]
"""An image and the size at which it is needed."""


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
        threads: int = 0,
    ) -> None:
        """Read nothing yet.

        Args:
            source: the images.
            short_side: see `scaled_size`, as for `long_side`.
            long_side: in pixels.
            kept: where the pixels of image files are kept; None decodes them at every read.
            reduced: decode large JPEG files at a reduced size, see `alloop.data.images.decoded_at`.
            threads: that read the images which `expect` names.
        """
        self.source, self.long_side = source, long_side
        self._short_side, self._kept, self._reduced = short_side, kept, reduced
        self._compared: set[ImageId] = set()
        self._threads = threads if isinstance(source, FolderImages) else 0
        self._ahead = Ahead(self._at, self._threads)

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

    def expect(self, reader: str, wanted: Callable[[int], Sequence[Read]], batch_size: int) -> None:
        """Begin to read the images that are needed next; this changes nothing that `read` returns.

        Args:
            reader: who needs them, see `alloop.data.ahead`.
            wanted: returns what is needed now and, after it, a number of images that are needed next.
            batch_size: images that are needed at once.
        """
        if self._threads:
            self._ahead.expect(reader, wanted(max(4 * self._threads, 2 * batch_size)))

    def forget_expected(self) -> None:
        """Hold no image any more that was read ahead."""
        self._ahead.forget()

    def read(self, image_id: ImageId, size: Size | None = None) -> UInt8[np.ndarray, "h w 3"]:
        """Return the pixels at the scaled size, or at another one; they must not be changed.

        Raises:
            DataError: the image cannot be read.
            DamagedFileError: the file is not the one that was recorded. It is compared when this object first reads
                the image, also where pixels are kept.
        """
        return self._ahead.read((image_id, size or self.size(image_id)))

    def _at(self, read: Read) -> UInt8[np.ndarray, "h w 3"]:
        return resized(self._kept_or_decoded(read[0]), *read[1])

    def _kept_or_decoded(self, image_id: ImageId) -> UInt8[np.ndarray, "h w 3"]:
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
