"""The embedded set as files: COCO JSON and PNG images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from alloop.data.digits import Scenes, digit_scenes, digit_scenes_parameters
from alloop.data.formats.coco import write_coco
from alloop.files import atomic_write


def export_digit_scenes(out: Path, overrides: Sequence[str]) -> list[Path]:
    """Write the three splits of the embedded set.

    Args:
        out: folder for `instances_pool.json` and so on, and for `images/`.
        overrides: parameters as `name=value`.

    Returns:
        the annotation files.

    Raises:
        ConfigError: an unknown parameter or a value out of range.
    """
    pairs = (text.partition("=") for text in overrides)
    parameters = digit_scenes_parameters({key: yaml.safe_load(value) for key, _, value in pairs}, "--set ")
    written = []
    for part, count in parameters.parts().items():
        scenes = digit_scenes(parameters, part, count)
        _write_images(scenes, out / "images")
        path = out / f"instances_{part}.json"
        atomic_write(path, write_coco(scenes.records))
        written.append(path)
    return written


def _write_images(scenes: Scenes, folder: Path) -> None:
    for image in scenes.records.images:
        path = folder / image.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(scenes.images.read(image.image_id))).save(path)
