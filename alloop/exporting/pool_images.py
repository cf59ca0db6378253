"""The images of a run's pool, where they lie now: their sizes, and their bytes as they were when the run began."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from PIL import Image

from alloop.config.blocks import DataConfig
from alloop.data.digits import DigitScenes, digit_pixels, digit_scenes_parameters
from alloop.data.formats.table import annotation_format
from alloop.data.image_folder import ImageFolder, image_path
from alloop.data.images import image_size
from alloop.data.reading import read_annotations
from alloop.errors import DamagedFileError, DataError
from alloop.files import sha256_of
from alloop.ledger.facts import RunFacts
from alloop.ledger.image_audit import data_of, image_folders
from alloop.ledger.image_sizes import Size
from alloop.ledger.labeled_images import LabeledImage
from alloop.values import ImageId


class PoolImages(Protocol):
    """The images of a pool."""

    def size(self, image: LabeledImage) -> Size:
        """Return (width, height) as displayed, for a run that recorded no sizes.

        Raises:
            DataError: nothing that is there tells the size.
        """

    def data(self, image: LabeledImage) -> bytes:
        """Return the bytes of the image file.

        Raises:
            DamagedFileError: it is gone, or it is not the image that the run began with.
        """

    def file(self, image: LabeledImage) -> Path | None:
        """Return the file of an image, after links are followed; None for an image that is drawn."""


def pool_images(facts: RunFacts, folder: Path) -> PoolImages:
    """Return the images of the pool of a run.

    Args:
        facts: what was recorded when the run began.
        folder: of the run; data that were moved together with it are found.

    Raises:
        DataError: the recorded config names no data that can be read.
    """
    data = data_of(facts, folder)
    if data is not None and data.digit_scenes is not None:
        return _Drawn(digit_scenes_parameters(data.digit_scenes, "data.digit_scenes."))
    if data is None or data.train is None:
        msg = f"{folder}: its recorded config names no data that can be read; give --images none"
        raise DataError(msg)
    return _Stored(data, ImageFolder(image_folders(data)["train"]))


@dataclass(frozen=True)
class _Stored:
    """Image files in a folder."""

    config: DataConfig
    folder: ImageFolder

    def size(self, image: LabeledImage) -> Size:
        if self.folder.root.is_dir():
            return image_size(image_path(self.folder.root, image.file_name))
        size = self._listed.get(image.file_name)
        if size is None:
            msg = f"{self.folder.root}: is not there, and nothing else tells the size of {image.file_name}; restore it"
            raise DataError(msg)
        return size

    @cached_property
    def _listed(self) -> Mapping[str, Size]:
        """The sizes that the annotation file of the pool gives; empty where it is not there any more."""
        train = self.config.train
        if train is None or not train.annotations.exists():
            return {}
        records = read_annotations(train.annotations, annotation_format(train.format, "data.train.format"))
        return {image.file_name: (image.width, image.height) for image in records.images}

    def data(self, image: LabeledImage) -> bytes:
        if not self.folder.root.is_dir():
            msg = f"{self.folder.root}: the images of the run are not there; restore them, or give --images none"
            raise DamagedFileError(msg)
        return self.folder.verified(image.image_id, image.file_name, image.sha256)

    def file(self, image: LabeledImage) -> Path | None:
        return Path(self.folder.found(image.file_name)[0])


@dataclass(frozen=True)
class _Drawn:
    """The embedded set, whose images are drawn and not stored."""

    parameters: DigitScenes

    def size(self, _image: LabeledImage) -> Size:
        return self.parameters.size, self.parameters.size

    def data(self, image: LabeledImage) -> bytes:
        pixels = digit_pixels(self.parameters, "pool", ImageId(image.image_id))
        if sha256_of(pixels.tobytes()) != image.sha256:
            msg = (
                f"image {image.image_id} ({image.file_name}) of the embedded set is drawn differently than when the "
                "run began; use the versions of numpy, pillow and scikit-learn that it began with, or --images none"
            )
            raise DamagedFileError(msg)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    def file(self, _image: LabeledImage) -> None:
        return None
