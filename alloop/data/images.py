"""Images through one decoder (Pillow): the header is checked before a pixel is decoded.

The result is uint8 RGB as displayed: EXIF orientation applied, 1-bit, gray, 16-bit, palette, CMYK
and alpha brought to 8-bit RGB. More than 8 bits are scaled, never cut off; alpha is laid on black.
"""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from alloop.data.bit_depth import INTEGER_MODES, Levels, deep_colour, float_levels, integer_levels
from alloop.data.image_folder import ImageFolder
from alloop.errors import DataError
from alloop.files import sha256_of
from alloop.values import ImageId, ImageRecord

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}  # of files that are taken for images
MAX_PIXELS = 50_000_000  # of one image; more is refused from its header
_ROTATED = {5, 6, 7, 8}  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112


@runtime_checkable
class ImageSource(Protocol):
    """Pixels by image id, and nothing else: no annotation can be reached from it."""

    records: Mapping[ImageId, ImageRecord]

    def read(self, image_id: ImageId) -> UInt8[np.ndarray, "h w 3"]:
        """Return the image as displayed, in RGB.

        Raises:
            DataError: it cannot be read.
        """

    def sha256(self, image_id: ImageId) -> str:
        """Return the hash of the stored bytes."""


class FolderImages:
    """Images in a folder, read by the file names of their records.

    Where `expected` holds the hash of an image, a file with another hash is refused.
    """

    def __init__(self, root: Path, records: Mapping[ImageId, ImageRecord]) -> None:
        """Remember where the images are; nothing is read yet."""
        self.root, self.folder, self.records = root, ImageFolder(root), records
        self.expected: Mapping[ImageId, str] = {}

    def read(self, image_id: ImageId) -> UInt8[np.ndarray, "h w 3"]:
        """Decode one image.

        Raises:
            DataError: missing, truncated, too large, or not of the declared size.
            DamagedFileError: the file is not the one that `expected` describes.
        """
        return self.read_with_depth(image_id)[0]

    def read_with_depth(self, image_id: ImageId) -> tuple[UInt8[np.ndarray, "h w 3"], int | None]:
        """Decode one image as `read` does; also return the bits that were inferred for it, None for most images."""
        record = self.records[image_id]
        where = f"{self.root / record.file_name} (image {image_id})"
        pixels, inferred = decoded_with_depth(self.verified(image_id), where)
        if pixels.shape[:2] != (record.height, record.width):
            msg = (
                f"{self.root / record.file_name}: image {image_id} is declared {record.width} x {record.height}, "
                f"but shows {pixels.shape[1]} x {pixels.shape[0]} pixels; its boxes cannot be trusted"
            )
            raise DataError(msg)
        return pixels, inferred

    def sha256(self, image_id: ImageId) -> str:
        """Return the hash of the file."""
        return sha256_of(self.stored(image_id))

    def verified(self, image_id: ImageId) -> bytes:
        """Return the bytes of the file, which must have the hash that `expected` holds for it, if it holds one.

        Raises:
            DataError: it is not there or cannot be read, and no hash is expected.
            DamagedFileError: the file changed, or it is gone.
        """
        if image_id not in self.expected:
            return self.stored(image_id)
        return self.folder.verified(image_id, self.records[image_id].file_name, self.expected[image_id])

    def stored(self, image_id: ImageId) -> bytes:
        """Return the bytes of the file.

        Raises:
            DataError: it is not there or cannot be read.
        """
        return self.folder.stored(image_id, self.records[image_id].file_name)


class MemoryImages:
    """Images that are pixels in memory already."""

    def __init__(
        self, pixels: Mapping[ImageId, UInt8[np.ndarray, "h w 3"]], records: Mapping[ImageId, ImageRecord]
    ) -> None:
        """Keep the pixels as they are."""
        self._pixels, self.records = pixels, records

    def read(self, image_id: ImageId) -> UInt8[np.ndarray, "h w 3"]:
        """Return the pixels as they were given."""
        return self._pixels[image_id]

    def sha256(self, image_id: ImageId) -> str:
        """Return the hash of the pixels."""
        return sha256_of(self._pixels[image_id].tobytes())


def opened_image(data: bytes, where: str, max_pixels: int) -> Image.Image:
    """Open an image and check its size in the header, without decoding a pixel."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
    except Exception as error:  # Pillow's plug-ins raise nearly anything on garbage
        msg = f"{where}: not an image that can be read ({error})"
        raise DataError(msg) from error
    if image.width * image.height > max_pixels:
        msg = f"{where}: {image.width} x {image.height} pixels are more than the limit of {max_pixels}; scale it down"
        raise DataError(msg)
    return image


def decode(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "h w 3"]:
    """Decode an image into uint8 RGB as displayed.

    Args:
        data: the encoded file.
        where: how to name it in an error.
        max_pixels: an image with more is refused from its header.

    Raises:
        DataError: not an image, truncated, or too large.
    """
    return decoded_with_depth(data, where, max_pixels)[0]


def decoded_with_depth(
    data: bytes, where: str, max_pixels: int = MAX_PIXELS
) -> tuple[UInt8[np.ndarray, "h w 3"], int | None]:
    """Decode an image as `decode` does; also return the bits that were inferred for it, see `alloop.data.bit_depth`.

    Raises:
        DataError: not an image, truncated, or too large.
    """
    image = opened_image(data, where, max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            eight_bit, inferred = _eight_bit(image, data)
            return np.ascontiguousarray(_to_rgb(ImageOps.exif_transpose(eight_bit))), inferred
    except Exception as error:
        msg = f"{where}: the image data is damaged or cut short ({error})"
        raise DataError(msg) from error


def _eight_bit(image: Image.Image, data: bytes) -> tuple[Image.Image, int | None]:
    """Return a loaded image with 8 bits per channel, and the bits that were inferred for it."""
    if image.mode in INTEGER_MODES:
        levels: Levels | None = integer_levels(image, data)
    else:
        levels = float_levels(image) if image.mode == "F" else deep_colour(image, data)
    if levels is None:
        return image, None
    # Pillow and OpenCV both turn a TIFF when they load it; then no orientation is left here
    scaled, orientation = Image.fromarray(levels.pixels), image.getexif().get(_ORIENTATION)
    if orientation is not None:
        scaled.getexif()[_ORIENTATION] = orientation
    return scaled, levels.inferred


def _to_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        under = Image.new("RGBA", over.size, (0, 0, 0, 255))
        return np.asarray(Image.alpha_composite(under, over).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def image_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return (width, height) as displayed, from the header alone.

    Raises:
        DataError: not an image, or too large.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})"
        raise DataError(msg) from error
    image = opened_image(data, str(path), max_pixels)
    try:
        rotated = image.getexif().get(_ORIENTATION) in _ROTATED
    except Exception:  # noqa: BLE001  a broken EXIF block says nothing about the orientation
        rotated = False
    return (image.height, image.width) if rotated else (image.width, image.height)
