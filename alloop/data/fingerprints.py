"""The fingerprint of an image: the hash of its bytes and its perceptual hash, from one reading of the file.

Threads do the work: Pillow and hashlib release the interpreter while they decode and hash, and two threads measured as
fast as two processes. What comes back does not depend on their number.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import UInt64

from alloop.data.images import FolderImages, ImageSource
from alloop.data.perceptual_hash import hash_of_pixels, perceptual_hash
from alloop.errors import DataError
from alloop.files import sha256_of
from alloop.progress import Progress
from alloop.values import ImageId

_AHEAD = 256  # images that are handed to the threads before their results are taken


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
    """Return the fingerprint of one image; what cannot be read is said in `problem`."""
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


def fingerprints(
    source: ImageSource,
    image_ids: Sequence[ImageId],
    name: str,
    progress: Progress | None = None,
    workers: int | None = None,
) -> dict[ImageId, Fingerprint]:
    """Return the fingerprint of each image, in the order of `image_ids`.

    Args:
        source: the images.
        image_ids: those to read.
        name: what they are, for the progress.
        progress: where to report progress.
        workers: threads; one per core by default.
    """
    progress, found = progress or Progress(quiet=True), {}
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for done, (image_id, result) in enumerate(_in_order(pool, source, image_ids), start=1):
            found[image_id] = result
            progress.step(f"hashing images ({name})", done, len(image_ids))
    return found


def _in_order(
    pool: ThreadPoolExecutor, source: ImageSource, image_ids: Sequence[ImageId]
) -> Iterator[tuple[ImageId, Fingerprint]]:
    """Return the fingerprints in order, with a bounded number of images under way."""
    rest = iter(image_ids)
    while some := list(islice(rest, _AHEAD)):
        yield from zip(some, pool.map(lambda image_id: fingerprint(source, image_id), some), strict=True)


def hashes_of(found: Mapping[ImageId, Fingerprint]) -> tuple[list[ImageId], UInt64[np.ndarray, " n"]]:
    """Return the images that have a perceptual hash, and these hashes."""
    known = [(image_id, one.perceptual) for image_id, one in found.items() if one.perceptual is not None]
    return [image_id for image_id, _ in known], np.array([value for _, value in known], dtype=np.uint64)
