"""A folder with one folder of images for each class, as torchvision's ImageFolder reads it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alloop.data.classification.classified import UNLABELED, ClassifiedImages
from alloop.data.image_index import visible_images
from alloop.errors import DataError, nearest


def read_class_folders(folder: Path, class_names: Sequence[str] = ()) -> ClassifiedImages:
    """Read the images below a folder; the first folder of an image's name is its class.

    Images that lie in no folder of a class are unlabeled. Hidden files, and those of systems, are left out.

    Args:
        folder: with the folders of the classes.
        class_names: in label order; empty for the names of the folders, sorted.

    Raises:
        DataError: there is no image, or a folder that is none of the classes.
    """
    names = visible_images(folder)
    if not names:
        msg = f"{folder}: expected images in a folder for each class, found no image"
        raise DataError(msg)
    found = [name.partition("/")[0] if "/" in name else None for name in names]
    classes = tuple(class_names) or tuple(sorted({name for name in found if name is not None}))
    rows = {name: label for label, name in enumerate(classes)}
    unknown = next((name for name in found if name is not None and name not in rows), None)
    if unknown is not None:
        msg = f"{folder / unknown}: the folder is none of the classes{nearest(unknown, classes)}"
        raise DataError(msg)
    labels = np.array([UNLABELED if name is None else rows[name] for name in found], dtype=np.int64)
    return ClassifiedImages(tuple(names), labels, classes, folder=folder)
