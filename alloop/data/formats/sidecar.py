"""What the other formats cannot hold: ids, sizes, unused classes, crowd flags. Kept in `alloop.json` beside them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from alloop.data.records import Category, Image
from alloop.errors import DataError

NAME = "alloop.json"


class Sidecar(msgspec.Struct):
    """The facts that make a conversion there and back lossless; `crowd` lists box numbers by image id."""

    images: list[Image]
    categories: list[Category]
    crowd: dict[int, list[int]] = {}


def read_sidecar(folder: Path) -> Sidecar | None:
    """The sidecar of a folder, if it has one."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Sidecar)
    except (msgspec.MsgspecError, OSError, RecursionError, UnicodeDecodeError) as error:
        msg = f"{path}: written by alloop, but it cannot be read ({error}). Remove it to read the folder without it."
        raise DataError(msg) from error


def refuse_lost_images(path: Path, side: Sidecar | None, images: Sequence[Image]) -> None:
    """An image that the sidecar lists and the file has lost is no empty image.

    Raises:
        DataError: naming the first one.
    """
    found = {image.id for image in images}
    for image in side.images if side else ():
        if image.id not in found:
            name = f"image {image.id} ({image.file_name})"
            raise DataError(f"{path}: {name} is listed in {NAME}, but the file has lost it; restore it")
