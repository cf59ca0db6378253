"""Pixels at the size that training and scoring use, each image decoded once."""

import errno
import os
import tempfile
import warnings
import weakref
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image as PillowImage

from alloop.data.images import ImageSource
from alloop.geometry.boxes import box_scale
from alloop.values import ImageId

_NOT_OFFERED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)  # by disks that cannot reserve


def scaled_size(width: int, height: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Return (width, height) after scaling to the short side, or to the long side where that would be exceeded."""
    scale = min(short_side / min(width, height), long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def resized(pixels: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Resize bilinearly with antialiasing."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(PillowImage.fromarray(pixels).resize((width, height), PillowImage.Resampling.BILINEAR))


class Scratch:
    """An unnamed file that is mapped into memory; a part of it may be written only after it was reserved.

    A write into a mapped part that the disk has no block for would kill the process (bus error). The file vanishes
    with the object.
    """

    def __init__(self, size: int) -> None:
        """Make a file of a size in bytes that takes no space yet.

        Raises:
            OSError: the folder for temporary files is not there, cannot be written, or forbids such a file.
        """
        with tempfile.TemporaryFile(prefix="alloop-pixels-", dir=scratch_folder()) as file:
            file.truncate(max(1, size))
            self.bytes = np.memmap(file, dtype=np.uint8, mode="r+", shape=(max(1, size),))
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)

    def reserve(self, offset: int, size: int) -> None:
        """Let the disk set blocks aside for a part.

        Raises:
            OSError: it has too few.
        """
        try:
            os.posix_fallocate(self._file, offset, size)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NOT_OFFERED:
                raise
            while size:  # the system or the disk does not offer it
                written = os.pwrite(self._file, bytes(min(size, 2**20)), offset)
                offset, size = offset + written, size - written


def scratch_folder() -> str:
    """Return the folder for temporary files, also where it is not there: no other is taken in its place."""
    return next(filter(None, map(os.environ.get, ("TMPDIR", "TEMP", "TMP"))), None) or tempfile.gettempdir()


class PixelCache:
    """Images at the size that training and scoring use, each decoded once.

    The pixels lie in an unnamed scratch file, so the page cache decides how much of it stays in memory and the process
    never holds more than it uses. Images beyond `limit` bytes, and those that the disk has no space for, are decoded
    on every read, which gives the same pixels.
    """

    def __init__(
        self,
        source: ImageSource,
        image_ids: Sequence[ImageId],
        short_side: int,
        long_side: int,
        limit: int,
        report: Callable[[str], None] = warnings.warn,
    ) -> None:
        """Make a scratch file for as many images as the limit allows; nothing is read yet.

        Args:
            source: the images.
            image_ids: those to keep, the first ones first.
            short_side: see `scaled_size`, as for `long_side`.
            long_side: in pixels.
            limit: size of the scratch file in bytes.
            report: is given a sentence, once, when the scratch file cannot be made or is full.
        """
        self.source, self.long_side = source, long_side
        self._short_side, self._report = short_side, report
        self._slots: dict[ImageId, tuple[int, int, int]] = {}  # offset in bytes, width, height
        self._filled: set[ImageId] = set()
        self._size = self._lay_out(image_ids, limit)
        self._scratch: Scratch | None = None
        self._is_full = False
        try:
            self._scratch = Scratch(self._size)
        except OSError as error:
            self._stop_filling(error)

    def _lay_out(self, image_ids: Sequence[ImageId], limit: int) -> int:
        """Give each image a slot until the limit is met; return the size of all slots in bytes."""
        offset = 0
        for image_id in image_ids:
            width, height = self.size(image_id)
            if offset + 3 * width * height > limit:
                break
            self._slots[image_id] = (offset, width, height)
            offset += 3 * width * height
        return offset

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
        if image_id in self._filled:
            return self._view(image_id)
        pixels = resized(self.source.read(image_id), *self.size(image_id))
        if image_id not in self._slots or not self._reserved(image_id):
            return pixels
        view = self._view(image_id)
        view[:] = pixels
        self._filled.add(image_id)
        return view

    def _view(self, image_id: ImageId) -> UInt8[np.ndarray, "h w 3"]:
        assert self._scratch is not None
        offset, width, height = self._slots[image_id]
        return self._scratch.bytes[offset : offset + 3 * width * height].reshape(height, width, 3)

    def _reserved(self, image_id: ImageId) -> bool:
        """Reserve the slot of an image; return whether it may be written."""
        if self._scratch is None or self._is_full:
            return False
        offset, width, height = self._slots[image_id]
        try:
            self._scratch.reserve(offset, 3 * width * height)
        except OSError as error:
            self._stop_filling(error)
            return False
        return True

    def _stop_filling(self, error: OSError) -> None:
        self._is_full = True
        self._report(
            f"{scratch_folder()}: no room for decoded images ({error.strerror}): {len(self._filled)} of "
            f"{len(self._slots)} are kept, the others are decoded at every read, which is slower. All of them take "
            f"{self._size / 2**20:.1f} MiB; let TMPDIR name a folder with as much space."
        )
