"""Image files of the same bytes in two splits. Only files of one length are read, so that large sets take a second."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from alloop.data.images import FolderImages
from alloop.data.splits import Split
from alloop.errors import DataError
from alloop.files import sha256_of

Pair = tuple[str, str, str, str]  # a split and the file name of its image, and the same of the other split


def same_files(splits: Mapping[str, Split]) -> list[Pair]:
    """Return each image of a split that is also in another one; splits that are drawn and not read are left out.

    Args:
        splits: by name.

    Raises:
        DataError: an image file that is not there or cannot be read.
    """
    of_length: defaultdict[int, list[tuple[str, str, str]]] = defaultdict(list)
    for name, split in splits.items():
        if isinstance(split.images, FolderImages):
            for image_id, image in split.dataset.images.items():
                path, status = _found(split.images, image_id, image.file_name)
                of_length[status.st_size].append((name, image.file_name, path))
    return [pair for files in of_length.values() for pair in _pairs(files)]


def _found(images: FolderImages, image_id: int, file_name: str) -> tuple[str, os.stat_result]:
    try:
        return images.folder.found(file_name)
    except OSError as error:
        msg = f"{images.root / file_name}: image {image_id} cannot be read ({error.strerror}); check the image folder"
        raise DataError(msg) from error


def _pairs(files: Sequence[tuple[str, str, str]]) -> list[Pair]:
    """Return the pairs of one content among files of one length."""
    if len({name for name, *_ in files}) < 2:
        return []
    of_content: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, file_name, path in files:
        with open(path, "rb") as file:  # noqa: PTH123  `found` returns text
            of_content[sha256_of(file.read())].append((name, file_name))
    twins = (pair for same in of_content.values() for pair in combinations(same, 2))
    return [(*first, *second) for first, second in twins if first[0] != second[0]]
