"""Images through one decoder (Pillow): the header is checked before a pixel is decoded.

The result is uint8 RGB as displayed: EXIF orientation applied, 1-bit, gray, 16-bit, palette, CMYK
and alpha brought to 8-bit RGB. More than 8 bits are scaled, never cut off; alpha is laid on black.
"""

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, features
from PIL import __version__ as pillow_version

from alloop.data.bit_depth import INTEGER_MODES, Levels, deep_colour, float_levels, integer_levels
from alloop.data.image_folder import ImageFolder
from alloop.errors import DataError
from alloop.files import sha256_of
from alloop.values import ImageId, ImageRecord

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}  # of files that are taken for images
MAX_PIXELS = 50_000_000  # of one image; more is refused from its header
DECODER = f"Pillow {pillow_version}, libjpeg {features.version('jpg')}, turbo {features.version('libjpeg_turbo')}"
_ROTATED = {5, 6, 7, 8}  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112
_REDUCED = {"JPEG", "MPO"}  # formats that can be decoded at 1/2, 1/4 or 1/8 of their size
_LARGE = 2_000_000  # pixels; a smaller image is decoded fast enough
_MARGIN = 1.5  # see `decoded_at`
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # a filter as `warnings.filters` has it


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
        pixels, inferred = decoded_with_depth(self.verified(image_id), self._where(image_id))
        self._refuse_other_size(image_id, (pixels.shape[1], pixels.shape[0]))
        return pixels, inferred

    def decode_at(
        self, image_id: ImageId, data: bytes, size: tuple[int, int], *, reduced: bool
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Return an image at a size (width, height), from the bytes of its file; see `decoded_at`.

        Raises:
            DataError: as `read`.
        """
        pixels, shown = decoded_at(data, self._where(image_id), size, reduced=reduced)
        self._refuse_other_size(image_id, shown)
        return pixels

    def _where(self, image_id: ImageId) -> str:
        return f"{self.root / self.records[image_id].file_name} (image {image_id})"

    def _refuse_other_size(self, image_id: ImageId, shown: tuple[int, int]) -> None:
        record = self.records[image_id]
        if shown != (record.width, record.height):
            msg = (
                f"{self.root / record.file_name}: image {image_id} is declared {record.width} x {record.height}, "
                f"but shows {shown[0]} x {shown[1]} pixels; its boxes cannot be trusted"
            )
            raise DataError(msg)

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
    if warnings.filters[:1] != [_QUIET]:  # not `catch_warnings`, which several threads must not use at once
        warnings.filterwarnings("ignore", module=_QUIET[3].pattern)
    try:
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
    with damage_named(where):
        displayed, inferred = _displayed(image, data)
        return np.asarray(displayed), inferred


def decoded_at(
    data: bytes, where: str, size: tuple[int, int], max_pixels: int = MAX_PIXELS, *, reduced: bool
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[int, int]]:
    """Decode an image and resize it bilinearly with antialiasing; also return the (width, height) of the whole image.

    A JPEG of more than 2 megapixels is decoded at 1/2, 1/4 or 1/8 of its size where that leaves at least 1.5 times
    the wanted size in both directions. libjpeg then leaves out the high frequencies that resizing would remove.

    Args:
        data: the encoded file.
        where: how to name it in an error.
        size: the wanted (width, height).
        max_pixels: an image with more is refused from its header.
        reduced: False decodes every image at its whole size.

    Raises:
        DataError: not an image, truncated, or too large.
    """
    image = opened_image(data, where, max_pixels)
    with damage_named(where):
        if reduced and image.format in _REDUCED and image.width * image.height > _LARGE:
            whole = shown_size(image)
            return np.asarray(_reduced(image, data, size)), whole
        displayed = _displayed(image, data)[0]
        return np.asarray(_resized(displayed, size)), displayed.size


def _reduced(image: Image.Image, data: bytes, size: tuple[int, int]) -> Image.Image:
    """Return an opened JPEG at a size as displayed, decoded at a smaller size where that is large enough."""
    width, height = image.size
    stored = size[::-1] if image.getexif().get(_ORIENTATION) in _ROTATED else size
    image.draft(None, (math.ceil(_MARGIN * stored[0]), math.ceil(_MARGIN * stored[1])))
    factor = round(max(width, height) / max(image.size))
    if factor == 1:
        return _resized(_displayed(image, data)[0], size)
    # a side that is no multiple of the factor is rounded up: the last pixel lies partly beyond the image
    inside = (0, 0, width / factor, height / factor)
    small = _to_rgb(image).resize(stored, Image.Resampling.BILINEAR, inside)
    ImageOps.exif_transpose(small, in_place=True)
    return small


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) as displayed of an image whose header was read."""
    opened_as_displayed = image.format == "TIFF"  # Pillow turns the size of these files alone when it opens them
    rotated = not opened_as_displayed and image.getexif().get(_ORIENTATION) in _ROTATED
    return (image.height, image.width) if rotated else (image.width, image.height)


@contextmanager
def damage_named(where: str) -> Iterator[None]:
    """Turn whatever Pillow raises while it decodes into a DataError that names the image."""
    try:
        yield
    except Exception as error:
        msg = f"{where}: the image data is damaged or cut short ({error})"
        raise DataError(msg) from error


def _displayed(image: Image.Image, data: bytes) -> tuple[Image.Image, int | None]:
    """Return an opened image in RGB as displayed, and the bits that were inferred for it."""
    image.load()
    eight_bit, inferred = _eight_bit(image, data)
    ImageOps.exif_transpose(eight_bit, in_place=True)
    return _to_rgb(eight_bit), inferred


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


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        under = Image.new("RGBA", over.size, (0, 0, 0, 255))
        return Image.alpha_composite(under, over).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


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
        return shown_size(image)
    except Exception:  # noqa: BLE001  a broken EXIF block says nothing about the orientation
        return image.size
