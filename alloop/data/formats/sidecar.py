"""What the other formats cannot hold: ids, sizes, unused classes, flags of boxes. Kept in `alloop.json` beside them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from alloop.data.records import Category, Records
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord

NAME = "alloop.json"


class Flags(NamedTuple):
    """What a box stands for: 1 where it marks a crowd, and 1 where it counts neither as found nor as missed."""

    iscrowd: int
    ignore: int


class Sidecar(msgspec.Struct):
    """The facts that make a conversion lossless.

    Attributes:
        images: every image, also the unlabeled ones.
        categories: every class, also those without a box.
        crowd: the positions of crowd boxes within each image that has some.
        unlabeled: the images that nobody has finished annotating.
        ignored: the positions of boxes that are marked `ignore`.
    """

    images: list[ImageRecord]
    categories: list[Category]
    crowd: dict[ImageId, list[int]] = {}
    unlabeled: list[ImageId] = []
    ignored: dict[ImageId, list[int]] = {}

    def image_ids(self) -> dict[str, ImageId]:
        """Return the image ids by file name."""
        return {image.file_name: image.image_id for image in self.images}

    def flags(self, image_id: ImageId, position: int) -> Flags:
        """Return the flags of the box at this position within its image."""
        return Flags(
            iscrowd=int(position in self.crowd.get(image_id, ())),
            ignore=int(position in self.ignored.get(image_id, ())),
        )


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
    ignored: dict[ImageId, list[int]] = {}
    for box in records.annotations:
        for is_marked, marked in ((box.iscrowd, crowd), (box.ignore, ignored)):
            if is_marked:
                marked.setdefault(box.image_id, []).append(positions[box.image_id])
        positions[box.image_id] += 1
    side = Sidecar(records.images, records.categories, crowd, sorted(records.unlabeled), ignored)
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
