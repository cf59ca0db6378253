"""The table of annotation formats. A format of your own is named by its import path, `package.module:FORMAT`."""

from pathlib import Path
from typing import TYPE_CHECKING

from alloop.errors import ConfigError

if TYPE_CHECKING:
    from alloop.data.formats.format import Format

# From the most general to the most particular: the format of a file is guessed from the end of the table.
FORMATS = {
    "coco": "alloop.data.formats.coco:COCO",
    "voc": "alloop.data.formats.voc:VOC",
    "yolo": "alloop.data.formats.yolo:YOLO",
    "label_studio": "alloop.data.formats.label_studio:LABEL_STUDIO",
    "cvat": "alloop.data.formats.cvat:CVAT",
    "hf": "alloop.data.formats.hf:HF",
}


def annotation_format(name: str, key: str) -> "Format":
    """Return the format of a name.

    Args:
        name: a name of the table, or an import path `package.module:FORMAT`.
        key: the key of the config or the option that holds the name, for messages.

    Raises:
        ConfigError: the name is unknown, or the path does not lead to a `Format`.
    """
    from alloop.data.formats.format import Format  # noqa: PLC0415  the command line reads the table without numpy
    from alloop.plugins import load  # noqa: PLC0415

    value = load(key, name, FORMATS)
    if not isinstance(value, Format):
        msg = f"{key}: {name!r} is no Format, it is {value!r}; see alloop.data.formats.format"
        raise ConfigError(msg)
    return value


def guess_format(path: Path) -> str:
    """Return the name of the format that a file or folder looks like; `coco` when it looks like none."""
    return next((name for name in reversed(FORMATS) if annotation_format(name, "format").guess(path)), "coco")
