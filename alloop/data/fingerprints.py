"""The fingerprint of an image: the hash of its bytes and its perceptual hash, from one reading of the file."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt64

from alloop.data.images import FolderImages, ImageSource
from alloop.data.perceptual_hash import hash_of_pixels, perceptual_hash
from alloop.errors import DataError
from alloop.files import sha256_of
from alloop.values import ImageId


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What identifies the content of one image.

    Attributes:
        sha256: of the stored bytes; None where the file cannot be read.
        perceptual: the 64-bit perceptual hash; None where the image cannot be decoded.
        problem: why something is None; empty otherwise.
    """

    sha256: str | None
    perceptual: int | None
    problem: str = ""


def fingerprint(source: ImageSource, image_id: ImageId) -> Fingerprint:
    """Return the fingerprint of one image; `problem` names what cannot be read."""
    if not isinstance(source, FolderImages):
        try:
            return Fingerprint(source.sha256(image_id), hash_of_pixels(source.read(image_id)))
        except DataError as error:
            return Fingerprint(None, None, str(error))
    try:
        data = source.stored(image_id)
    except DataError as error:
        return Fingerprint(None, None, str(error))
    where = f"{source.root / source.records[image_id].file_name} (image {image_id})"
    try:
        return Fingerprint(sha256_of(data), perceptual_hash(data, where))
    except DataError as error:
        return Fingerprint(sha256_of(data), None, str(error))


def hashes_of(found: Mapping[ImageId, Fingerprint]) -> tuple[list[ImageId], UInt64[np.ndarray, " n"]]:
    """Return the images that have a perceptual hash, and these hashes."""
    known = [(image_id, one.perceptual) for image_id, one in found.items() if one.perceptual is not None]
    return [image_id for image_id, _ in known], np.array([value for _, value in known], dtype=np.uint64)
