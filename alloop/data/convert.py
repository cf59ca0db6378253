"""From any annotation format to any other, and the embedded set as files."""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import yaml

from alloop.data.formats import cvat, label_studio
from alloop.data.formats.coco import write_coco
from alloop.data.formats.sidecar import NAME
from alloop.data.formats.voc import voc_xml
from alloop.data.formats.yolo import sidecar_of, yolo_files
from alloop.data.records import Box, Records, validate
from alloop.data.splits import READERS
from alloop.errors import ConfigError, DataError, nearest
from alloop.files import atomic_write


def convert_annotations(source: Path, target: Path, from_: str, to: str) -> str:
    """Read, validate, write, read again and compare; returns a summary line.

    Raises:
        DataError: IN is unusable, or OUT exists, or OUT cannot hold IN without loss.
    """
    if target.exists():
        msg = f"{target}: exists already; give a new name, nothing is overwritten"
        raise DataError(msg)
    records = READERS[from_](source)
    dataset = validate(records, str(source))
    files = files_of(records, target, to)
    for path, data in files.items():
        if not path.resolve().is_relative_to(target.resolve()) and path != target:
            msg = f"{path}: a file name of {source} leads out of {target}; rename that image"
            raise DataError(msg)
        atomic_write(path, data)
    again = validate(READERS[to](target), str(target))
    if (again.boxes, len(again.images)) != (dataset.boxes, len(dataset.images)):
        wanted = f"{dataset.boxes} in {len(dataset.images)}"
        msg = f"{target}: holds {again.boxes} boxes in {len(again.images)} images instead of {wanted}"
        raise DataError(msg)
    crowd = sum(box.iscrowd for box in records.annotations)
    empty = sum(not len(a) for a in dataset.annotations.values())
    masks = sum(mask is not None for truth in dataset.annotations.values() for mask in truth.masks)
    lost = f"; {masks} masks stay behind, {to} holds boxes" if masks and to != "coco" else ""
    return f"{target}: {len(again.images)} images ({empty} empty), {again.boxes} boxes ({crowd} crowd){lost}"


def files_of(records: Records, target: Path, to: str) -> dict[Path, bytes]:
    """The files of a data set in one format."""
    if to == "coco":
        return {target: write_coco(records)}
    side = {target / NAME: msgspec.json.encode(sidecar_of(records))}
    if to == "cvat":
        every = [image.id for image in records.images]
        return {target / cvat.NAME: cvat.cvat_xml(records, every)} | side
    if to == "label_studio":
        tasks = json.dumps(label_studio.tasks_of(records), allow_nan=False).encode()
        page = label_studio.label_config([category.name for category in records.categories]).encode()
        return {target / label_studio.NAME: tasks, target / label_studio.CONFIG: page} | side
    if to == "yolo":
        return {target / name: data for name, data in yolo_files(records).items()} | side
    names = {category.id: category.name for category in records.categories}
    by_image: dict[int, list[tuple[str, Box]]] = {image.id: [] for image in records.images}
    for box in records.annotations:
        by_image[box.image_id].append((names[box.category_id], box))
    files: dict[Path, bytes] = {}
    for image in records.images:
        path = target / "Annotations" / Path(image.file_name).with_suffix(".xml")
        if path in files:
            msg = f"image {image.id}: {path.name} is taken; VOC needs names that differ before the suffix"
            raise DataError(msg)
        files[path] = voc_xml(image, by_image[image.id])
    return files | side


def export_digit_scenes(out: Path, overrides: Sequence[str]) -> list[Path]:
    """Write the three splits of the embedded set under `out`.

    Raises:
        ConfigError: an unknown parameter or a value out of range.
    """
    from PIL import Image  # noqa: PLC0415
    from pydantic import ValidationError  # noqa: PLC0415

    from alloop.data.digits import DigitScenes, Part, digit_scenes  # noqa: PLC0415

    tree = {key: yaml.safe_load(text) for key, _, text in (item.partition("=") for item in overrides)}
    unknown = sorted(set(tree) - set(DigitScenes.model_fields))
    if unknown:
        msg = f"--set {unknown[0]}: unknown parameter{nearest(unknown[0], DigitScenes.model_fields)}"
        raise ConfigError(msg)
    try:
        parameters = DigitScenes(**tree)
    except ValidationError as error:
        item = error.errors()[0]
        msg = f"--set {'.'.join(map(str, item['loc']))}: {item['msg']}, found {item['input']!r}"
        raise ConfigError(msg) from error
    parts: dict[Part, int] = {"pool": parameters.pool, "reference": parameters.reference, "test": parameters.test}
    written = []
    for part, count in parts.items():
        scenes = digit_scenes(parameters, part, count)
        for image in scenes.records.images:
            path = out / "images" / image.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(scenes.images.read(image.id))).save(path)  # type: ignore[arg-type]
        path = out / f"instances_{part}.json"
        atomic_write(path, write_coco(scenes.records))
        written.append(path)
    return written
