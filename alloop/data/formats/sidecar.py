"""What the other formats cannot hold: ids, sizes, unused classes, crowd flags. Kept in `alloop.json` beside them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from alloop.data.records import Category, Records
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord

NAME = "alloop.json"


class Sidecar(msgspec.Struct):
    """The facts that make a conversion lossless.

    Attributes:
        images: every image, also the unlabeled ones.
        categories: every class, also those without a box.
        crowd: the positions of crowd boxes within each image that has some.
        unlabeled: the images that nobody has finished annotating.
    """

    images: list[ImageRecord]
    categories: list[Category]
    crowd: dict[ImageId, list[int]] = {}
    unlabeled: list[ImageId] = []

    def image_ids(self) -> dict[str, ImageId]:
        """Return the image ids by file name."""
        return {image.file_name: image.image_id for image in self.images}

    def is_crowd(self, image_id: ImageId, position: int) -> bool:
        """Return whether the box at this position within its image marks a crowd."""
        return position in self.crowd.get(image_id, ())


NO_SIDECAR = Sidecar([], [])


def read_sidecar(folder: Path) -> Sidecar | None:
    """Read the sidecar of a folder; None where there is none, or where `folder` is a file.

    Raises:
        DataError: it cannot be read.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Sidecar)
    except (msgspec.MsgspecError, OSError, RecursionError, UnicodeDecodeError) as error:
        msg = f"{path}: written by alloop, but it cannot be read ({error}). Remove it to read the folder without it."
        raise DataError(msg) from error


def sidecar_file(records: Records, target: Path) -> dict[Path, bytes]:
    """Return the sidecar of some records as a file inside `target`."""
    positions: Counter[ImageId] = Counter()
    crowd: dict[ImageId, list[int]] = {}
    for box in records.annotations:
        if box.iscrowd:
            crowd.setdefault(box.image_id, []).append(positions[box.image_id])
        positions[box.image_id] += 1
    side = Sidecar(records.images, records.categories, crowd, sorted(records.unlabeled))
    return {target / NAME: msgspec.json.encode(side)}


def refuse_lost_images(path: Path, side: Sidecar | None, images: Sequence[ImageRecord]) -> None:
    """Check that every image of the sidecar is still in the file: a lost image is not an empty one.

    Raises:
        DataError: naming the first lost image.
    """
    present = {image.image_id for image in images}
    for image in side.images if side else ():
        if image.image_id not in present:
            name = f"image {image.image_id} ({image.file_name})"
            raise DataError(f"{path}: {name} is listed in {NAME}, but the file has lost it; restore it")
