"""A perceptual hash: 64 bits that hardly change when an image is encoded anew, scaled or brightened.

The hash is the DCT hash of C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010),
section 3.2.1. X is the image in gray levels, scaled to 32 by 32 pixels without keeping its aspect:

    C[u, v] = sum over y, x of X[y, x] cos(pi (2 y + 1) u / 64) cos(pi (2 x + 1) v / 64),   u, v = 1, ..., 8
    bit[u, v] = 1 where C[u, v] is above the median of the 64 coefficients

The number of bits in which two hashes differ (Hamming distance) says how different the images look, whatever their
size. The image is taken as displayed, with its EXIF orientation. The cosines are rounded to multiples of 1/4096, so
that the sums are exact in integers and the hash is the same on every machine. An image of one colour has the hash 0.
"""

from typing import Final

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageOps

from alloop.data.images import MAX_PIXELS, damage_named, decode, opened_image

SIDE: Final = 32  # pixels of the scaled image
_DRAFT = 2 * SIDE  # a JPEG is decoded to at least this many pixels, so that scaling still averages over some
_FREQUENCIES = np.arange(1, 9)[:, None]
_COSINES: Float64[np.ndarray, "8 32"] = np.round(
    4096 * np.cos(np.pi * (2 * np.arange(SIDE)[None] + 1) * _FREQUENCIES / (2 * SIDE))
)  # whole numbers: the sums of products stay below 2**53, so they are exact in floats, which are multiplied faster


def perceptual_hash(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> int:
    """Return the 64-bit hash of an encoded image.

    A JPEG is decoded at an eighth, a quarter or half of its size where that is large enough, and only its luminance.

    Args:
        data: the encoded file.
        where: how to name it in an error.
        max_pixels: an image with more is refused from its header.

    Raises:
        DataError: not an image, truncated, or too large.
    """
    image = opened_image(data, where, max_pixels)
    if image.format != "JPEG":
        return hash_of_pixels(decode(data, where, max_pixels))
    with damage_named(where):
        image.draft("L", (_DRAFT, _DRAFT))
        return _hash(np.asarray(ImageOps.exif_transpose(_small(image.convert("L")))))


def hash_of_pixels(pixels: UInt8[np.ndarray, "h w 3"]) -> int:
    """Return the 64-bit hash of an image in RGB."""
    return _hash(np.asarray(_small(Image.fromarray(pixels).convert("L"))))


def _small(gray: Image.Image) -> Image.Image:
    return gray.resize((SIDE, SIDE), Image.Resampling.BOX)


def _hash(gray: UInt8[np.ndarray, "32 32"]) -> int:
    coefficients = _COSINES @ gray.astype(np.float64) @ _COSINES.T
    middle = np.sort(coefficients, axis=None)[31:33]
    return int.from_bytes(np.packbits(2 * coefficients > middle.sum()).tobytes(), "big")
