"""Fingerprints that are kept from one start to the next, so that a run that was killed while it hashed goes on there.

The fingerprints of a few images are one entry of a `CacheFolder`. Its key holds what the file system says about each
file: name, device, inode, size, and the times of the last change of its bytes and of its entry. A file that was changed
in place has another time, also where somebody set the first one back, so its fingerprint is computed anew. A file that
changed within the last two seconds is not kept: a second change might bear the same time. One that changes while it is
hashed has other times afterwards, so what was kept is not found again.
"""

import time
from collections.abc import Sequence

from PIL import __version__ as pillow_version
from PIL import features

from alloop.data.cache_folder import CacheFolder
from alloop.data.cache_lock import one_at_a_time
from alloop.data.fingerprints import Fingerprint, fingerprint
from alloop.data.images import FolderImages, ImageSource
from alloop.data.threads import blocks, in_order
from alloop.errors import DataError
from alloop.files import sha256_of
from alloop.progress import Progress
from alloop.values import ImageId

_DECODER = ("fingerprints 1", pillow_version, features.version("jpg"), features.version("libjpeg_turbo"))
_SETTLED = 2_000_000_000  # ns; no file system counts time in longer steps
_SHA256, _PERCEPTUAL = 32, 8  # bytes
_SIZE = 1 + _PERCEPTUAL + _SHA256  # of one fingerprint: whether there is a perceptual hash, and both hashes


def fingerprints(
    source: ImageSource,
    image_ids: Sequence[ImageId],
    name: str,
    progress: Progress | None = None,
    workers: int | None = None,
    kept: CacheFolder | None = None,
) -> dict[ImageId, Fingerprint]:
    """Return the fingerprint of each image, in the order of `image_ids`.

    Args:
        source: the images.
        image_ids: those to read.
        name: what they are, for the progress.
        progress: where to report progress.
        workers: threads; one per core by default.
        kept: where fingerprints of earlier starts are found, and those of this one are kept.
    """
    progress = progress or Progress(quiet=True)
    found: dict[ImageId, Fingerprint] = {}

    def read(some: Sequence[ImageId]) -> list[tuple[ImageId, Fingerprint]]:
        return list(zip(some, _of_block(source, some, kept), strict=True))

    with one_at_a_time(kept, "hashing"):
        for results in in_order(read, blocks(image_ids), workers):
            found.update(results)
            progress.step(f"hashing images ({name})", len(found), len(image_ids))
    return found


def _of_block(source: ImageSource, image_ids: Sequence[ImageId], kept: CacheFolder | None) -> list[Fingerprint]:
    """Return the fingerprint of each image; they are taken from `kept`, or kept there, where the files allow it."""
    key = None if kept is None else _key(source, image_ids)
    if kept is None or key is None:
        return [fingerprint(source, image_id) for image_id in image_ids]
    packed = kept.get(key)
    if packed is not None and len(packed) == _SIZE * len(image_ids):
        known = (_unpacked(packed[_SIZE * row : _SIZE * (row + 1)]) for row in range(len(image_ids)))
        # one that cannot be decoded is read again, which says why
        return [one or fingerprint(source, image_id) for image_id, one in zip(image_ids, known, strict=True)]
    found = [fingerprint(source, image_id) for image_id in image_ids]
    if all(one.sha256 for one in found):
        kept.put(key, [_packed(one) for one in found])
    return found


def _key(source: ImageSource, image_ids: Sequence[ImageId]) -> str | None:
    """Return the key of the fingerprints of some images; None where they must not be kept."""
    if not isinstance(source, FolderImages):
        return None
    newest, files = time.time_ns() - _SETTLED, []
    for image_id in image_ids:
        name = source.records[image_id].file_name
        try:
            _, status = source.folder.found(name)
        except (OSError, DataError):
            return None
        if max(status.st_mtime_ns, status.st_ctime_ns) > newest:
            return None
        files.append((name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return sha256_of(repr((_DECODER, files)).encode())


def _packed(one: Fingerprint) -> bytes:
    has_perceptual = one.perceptual is not None
    return bytes([has_perceptual]) + (one.perceptual or 0).to_bytes(_PERCEPTUAL) + bytes.fromhex(one.sha256 or "")


def _unpacked(data: memoryview) -> Fingerprint | None:
    """Return a fingerprint; None for an image that cannot be decoded."""
    if not data[0]:
        return None
    return Fingerprint(data[1 + _PERCEPTUAL :].hex(), int.from_bytes(data[1 : 1 + _PERCEPTUAL]))
