"""What a round asks of a program outside: images, labels and names, with a manifest that is written last.

labeled.json     COCO: the images to train on, with their annotations
pool.json        COCO without annotations: images to predict, one of which may be bought next
test.json        the same, to measure on
reference.json   the same; only where the strategy looks at reference images
labeled_NAME     the labeled images in another format, where `detector.labeled_as` names one
manifest.json    what is expected in return, where the images lie, and the sha256 of every file
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from alloop.data.formats.coco import write_coco
from alloop.data.formats.table import annotation_format
from alloop.data.images import FolderImages
from alloop.data.paid_records import never_trained, records_of
from alloop.data.records import Category, Records
from alloop.data.splits import Split
from alloop.errors import ConfigError
from alloop.external.folders import MANIFEST
from alloop.files import atomic_write, sha256_of
from alloop.predictions.rows import Classes
from alloop.values import Annotations, ImageId, ImageRecord


@dataclass(frozen=True)
class Ask:
    """What one round asks.

    Attributes:
        round: the round.
        random_seed: that of the run; a program that uses it gives another run with another seed.
        classes: the classes in label order, with their category ids.
        labeled: annotations of the images to train on.
        pool: the images of the pool.
        predict: for each set of images to predict, `pool`, `test` and perhaps `reference`, its split.
        sigmas: standard deviations of the noise under which the pool is also to be predicted.
        embeddings: whether the images of the pool and the labeled ones are to be described by vectors.
        regions: whether the predicted boxes of the pool and the labeled boxes are to be described by vectors.
        labeled_as: further formats of the labeled images.
    """

    round: int
    random_seed: int
    classes: Classes
    labeled: Mapping[ImageId, Annotations]
    predict: Mapping[str, Split]
    sigmas: Sequence[float]
    embeddings: bool
    regions: bool
    labeled_as: Sequence[str]

    @cached_property
    def identity(self) -> str:
        """The sha256 of what is asked, wherever the images lie; the answer repeats it."""
        return sha256_of(json.dumps(self._content(), sort_keys=True).encode())

    def images(self, name: str) -> list[ImageRecord]:
        """Return the images of a set by ascending id; those of the pool are the ones without labels."""
        records = self.predict[name].dataset.images
        skipped = self.labeled if name == "pool" else {}
        return [records[image_id] for image_id in sorted(records) if image_id not in skipped]

    @property
    def pool_images(self) -> list[ImageRecord]:
        """All images of the pool, the labeled ones included, by ascending id."""
        records = self.predict["pool"].dataset.images
        return [records[image_id] for image_id in sorted(records)]

    @property
    def wanted(self) -> list[str]:
        """The names of what is expected in return, without their suffixes."""
        noisy = [noisy_name(sigma) for sigma in self.sigmas]
        vectors = ["embeddings"] if self.embeddings else []
        return [*self.predict, *noisy, *vectors, *(["pool_features", "labeled_features"] if self.regions else [])]

    def write(self, folder: Path) -> None:
        """Write every file that is missing or differs, and the manifest last; may be called any number of times.

        Raises:
            ConfigError: a split whose images are no files.
        """
        manifest = {
            "ask": self.identity,
            **self._content(),
            "image_folders": {"labeled": _folder(self.predict["pool"])}
            | {name: _folder(split) for name, split in self.predict.items()},
        }
        further = {
            path: data
            for name in self.labeled_as
            for path, data in annotation_format(name, "").files(self._labeled(), folder / f"labeled_{name}").items()
        }
        files = {folder / name: data for name, data in self._files.items()} | further
        for path, data in [*files.items(), (folder / MANIFEST, json.dumps(manifest, indent=1).encode())]:
            if not path.is_file() or path.read_bytes() != data:
                atomic_write(path, data)

    def _content(self) -> dict[str, object]:
        """Return what the manifest says, without the folders of this machine."""
        return {
            "version": 1,
            "round": self.round,
            "random_seed": self.random_seed,
            "classes": list(self.classes.names),
            "wanted": self.wanted,
            "files": {name: sha256_of(data) for name, data in self._files.items()},
        }

    @cached_property
    def _files(self) -> dict[str, bytes]:
        images = {f"{name}.json": self._unlabeled(self.images(name)) for name in self.predict}
        return {"labeled.json": write_coco(self._labeled()), **images}

    def _unlabeled(self, images: Sequence[ImageRecord]) -> bytes:
        return msgspec.json.encode({"images": images, "categories": self._categories()})

    def _labeled(self) -> Records:
        """Return the labeled images with what was paid for; a box that is never trained on is marked `ignore`."""
        records = self.predict["pool"].dataset.images
        images = [records[image_id] for image_id in sorted(self.labeled)]
        return records_of(images, self.labeled, self._categories(), never_trained)

    def _categories(self) -> list[Category]:
        return [Category(*pair) for pair in zip(self.classes.category_ids, self.classes.names, strict=True)]


def noisy_name(sigma: float) -> str:
    """Return what the predictions of the pool under noise are called."""
    return f"noisy_{sigma:g}"


def _folder(split: Split) -> str:
    if not isinstance(split.images, FolderImages):
        msg = "detector.name: external needs image files, and digit_scenes has none (alloop export-digits writes them)"
        raise ConfigError(msg)
    return str(split.images.root.resolve())
