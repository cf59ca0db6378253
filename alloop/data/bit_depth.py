"""Images of more than 8 bits: how many bits their values have, and how they become 8-bit levels.

Cameras and scanners write 10, 12 or 14 bits into 16-bit files. Divided by the range of the file, such an image is
nearly black. So the depth is what the file states (TIFF: MaxSampleValue, SMaxSampleValue or BitsPerSample; PNG: sBIT),
else the smallest of `DEPTHS` that holds its largest value. Levels are always divided by the full range of that depth,
never stretched between the smallest and the largest value, so two images of one depth stay comparable.

The danger: the depth that is not stated is inferred from one image alone. A dark image of a 12-bit camera whose values
all fit 10 bits comes out four times as bright as its neighbours. `alloop check-data --images` counts the depths that
were inferred; where they differ within a data set, write the depth into the files.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits; nothing in between
_BITS_PER_SAMPLE, _MAX_SAMPLE, _SMAX_SAMPLE, _SAMPLE_FORMAT = 258, 281, 341, 339  # tags of TIFF
_UNSIGNED = 1
_PHOTOMETRIC, _RGB = 262, 2
_PNG, _PNG_COLOURS = b"\x89PNG\r\n\x1a\n", {2, 4, 6}  # colour types of several channels
INTEGER_MODES = {"I;16", "I;16B", "I;16L", "I;16N", "I"}


@dataclass(frozen=True, slots=True)
class Levels:
    """8-bit levels, and the bits that were inferred for them; None where the file says how many there are."""

    pixels: UInt8[np.ndarray, "h w *channels"]
    inferred: int | None


def integer_levels(image: Image.Image, data: bytes) -> Levels:
    """Return the levels of a gray image of 16-bit or 32-bit integers; a negative value is 0."""
    values, bits = np.asarray(image), _file_bits(image)
    if image.mode == "I" and bits == 32 and _tag(image, _SAMPLE_FORMAT) == _UNSIGNED:
        values = values.view(np.uint32)  # Pillow has no unsigned mode of 32 bits
    return _scaled(values, _stated(image, data), 32 if image.mode == "I" and bits != 16 else 16)


def float_levels(image: Image.Image) -> Levels:
    """Return the levels of a gray image of floats.

    Values up to 1 are shares of white, values up to 255 are levels, and larger ones are scaled by their depth. What is
    no number is 0.
    """
    values = np.asarray(image, dtype=np.float64)
    finite = values[np.isfinite(values)]
    largest = float(finite.max(initial=0.0))
    depth = _smallest_depth(largest)
    top = 1.0 if largest <= 1.0 else float(2**depth - 1)
    shares = np.nan_to_num(values, nan=0.0, posinf=top, neginf=0.0) / top
    levels = np.clip(shares * 255, 0, 255).round().astype(np.uint8)
    return Levels(levels, depth if largest > 255 else None)


def deep_colour(image: Image.Image, data: bytes) -> Levels | None:
    """Return the levels, RGB with alpha or without, of a colour image of 16 bits that uses fewer of them.

    None for any other image: Pillow keeps the upper 8 bits of each channel, which is right where all 16 are used.
    """
    if not _is_deep_colour(image, data):
        return None
    import cv2  # noqa: PLC0415  slow to import, and only these images need it

    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    values = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[2] not in (3, 4):
        return None
    if values.shape[:2] != (image.height, image.width):
        return None
    stated = _stated(image, data)
    if _smallest_depth(float(values[..., :3].max(initial=0)), stated) == 16:
        return None
    colours = _scaled(values[..., 2::-1], stated, 16)
    if values.shape[2] == 3:
        return colours
    alpha = _scaled(values[..., 3:], None, 16).pixels
    return Levels(np.concatenate([colours.pixels, alpha], axis=2), colours.inferred)


def _scaled(values: np.ndarray, stated: int | None, bits: int) -> Levels:
    """Divide values by the full range of their depth; `bits` is the depth that the file has room for."""
    largest = float(values.max(initial=0))
    depth = _smallest_depth(largest, stated)
    top = 2**depth - 1
    levels = (np.clip(values.astype(np.int64), 0, top) * 255 + top // 2) // top
    return Levels(levels.astype(np.uint8), depth if stated is None and depth != bits else None)


def _smallest_depth(largest: float, stated: int | None = None) -> int:
    """Return the smallest depth that holds the largest value; at least the stated one."""
    return next((depth for depth in DEPTHS if largest < 2**depth and depth >= (stated or 0)), DEPTHS[-1])


def _stated(image: Image.Image, data: bytes) -> int | None:
    """Return the bits that the file says its values have; None where it says nothing, or only how wide they lie."""
    if data.startswith(_PNG):
        return next((max(body) for kind, body in _png_chunks(data) if kind == b"sBIT" and body), None)
    largest = max((v for tag in (_MAX_SAMPLE, _SMAX_SAMPLE) if (v := _tag(image, tag)) is not None), default=0)
    if largest > 0:
        return _smallest_depth(largest)
    bits = _file_bits(image)
    return bits if bits not in (None, 16, 32) else None


def _is_deep_colour(image: Image.Image, data: bytes) -> bool:
    if data.startswith(_PNG):
        return len(data) > 25 and data[24] == 16 and data[25] in _PNG_COLOURS
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, ())
    return len(bits) > 2 and set(bits) == {16} and _tag(image, _PHOTOMETRIC) == _RGB


def _file_bits(image: Image.Image) -> int | None:
    bits = _tag(image, _BITS_PER_SAMPLE)
    return None if bits is None else int(bits)


def _tag(image: Image.Image, tag: int) -> float | None:
    """Return a number of a TIFF, the largest of several; None where it is not there or is no number."""
    value = getattr(image, "tag_v2", {}).get(tag)
    values = value if isinstance(value, tuple) else (value,)
    numbers = [float(number) for number in values if isinstance(number, (int, float)) and np.isfinite(number)]
    return max(numbers, default=None)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and body of the chunks of a PNG that come before its pixels."""
    position = len(_PNG)
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind == b"IDAT":
            return
        yield kind, data[position + 8 : position + 8 + length]
        position += 12 + length
