"""Recheck the image files of a run against the hashes that were recorded when it began."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from alloop.config.blocks import DataConfig, SplitConfig
from alloop.data.classification.splits import FORMATS, image_folder_of
from alloop.data.formats.table import annotation_format
from alloop.data.image_folder import ImageFolder
from alloop.data.threads import blocks, in_order
from alloop.errors import DamagedFileError
from alloop.ledger.facts import RunFacts
from alloop.ledger.split_images import HashedImage, recorded_images
from alloop.ledger.store import Ledger

TITLES = {"train": "pool", "reference": "reference set", "test": "test set"}


@dataclass(frozen=True, slots=True)
class ImageAudit:
    """How many image files agree with their hashes, what is wrong with others, and which were not looked at and why."""

    agreeing: int
    findings: list[str]
    unchecked: list[str]


def audit_images(ledger: Ledger, data: DataConfig) -> ImageAudit:
    """Hash every image file whose hash is recorded and whose folder is there."""
    if data.is_embedded:
        return ImageAudit(0, [], [])  # drawn, not stored
    recorded, folders = recorded_images(ledger), image_folders(data)
    agreeing, findings, unchecked = 0, [], []
    for split, folder in folders.items():
        images = recorded.get(split, [])
        if not images:
            unchecked.append(f"the images of the {TITLES[split]} were not checked: the run recorded no hashes of them")
        elif not folder.is_dir():
            unchecked.append(f"the images of the {TITLES[split]} were not checked: {folder} is not there")
        else:
            wrong = changed_images(folder, images)
            findings += wrong
            agreeing += len(images) - len(wrong)
    return ImageAudit(agreeing, findings, unchecked)


def changed_images(folder: Path, images: list[HashedImage]) -> list[str]:
    """Return a finding for each image file that is gone or has another hash than the recorded one."""
    files = ImageFolder(folder)

    def findings(some: Sequence[HashedImage]) -> list[str]:
        found = []
        for image in some:
            try:
                files.verified(*image)
            except DamagedFileError as error:
                found.append(str(error))
        return found

    return [finding for some in in_order(findings, blocks(images)) for finding in some]


def image_folders(data: DataConfig) -> dict[str, Path]:
    """Return the image folder of each split that has one; one that is reference and test at once appears as `test`."""
    blocks = {
        "train": data.train,
        "reference": data.reference if data.test else None,
        "test": data.test or data.reference,
    }
    found = {split: _image_folder(block, split) for split, block in blocks.items() if block is not None}
    return {split: folder for split, folder in found.items() if folder is not None}


def _image_folder(block: SplitConfig, split: str) -> Path | None:
    """Return where the image files of a split are; None where its images are stored otherwise."""
    if block.format in FORMATS:
        return image_folder_of(block)
    return block.images or annotation_format(block.format, f"data.{split}.format").image_folder(block.annotations)


def data_of(facts: RunFacts, folder: Path) -> DataConfig | None:
    """Return the data that a run began with, where they lie now; None where its config names none that can be read.

    Data that were moved together with the run are found by their position relative to its folder.
    """
    try:
        config = yaml.safe_load(facts.config)
        return DataConfig.model_validate(_relocated(config["data"], facts.folder, folder))
    except (yaml.YAMLError, ValidationError, KeyError, TypeError, AttributeError):
        return None


def _relocated(tree: Mapping[str, object], before: str, now: Path) -> dict[str, object]:
    relocated: dict[str, object] = dict(tree)
    for key, value in tree.items():
        if isinstance(value, Mapping) and key != "digit_scenes":
            relocated[key] = _relocated(value, before, now)
        elif key in ("annotations", "images") and isinstance(value, str) and before:
            moved = (now / os.path.relpath(value, before)).resolve()
            relocated[key] = str(moved) if moved.exists() else value
    return relocated
