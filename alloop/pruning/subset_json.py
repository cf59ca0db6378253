"""Cut a COCO file to some of its images; what stays keeps its bytes."""

from collections.abc import Collection, Container, Iterator
from itertools import compress
from pathlib import Path

import msgspec

from alloop.data.formats.coco import read_bytes
from alloop.values import ImageId


class _ImageKey(msgspec.Struct, gc=False):
    id: int


class _RecordKey(msgspec.Struct, gc=False):
    image_id: int


def subset_json(path: Path, kept: Collection[ImageId]) -> Iterator[bytes]:
    """Yield a COCO file cut to some of its images, in parts.

    Every record that stays keeps its bytes, and so does everything that names no image. All lists whose records name
    an image are cut, not only the annotations.
    """
    chosen = frozenset(kept)
    tree = msgspec.json.decode(read_bytes(path), type=dict[str, msgspec.Raw])
    opening = b"{"
    for key, text in tree.items():
        yield opening + msgspec.json.encode(key) + b": "
        yield from _kept_part(key, text, chosen)
        opening = b",\n"
    yield b"}\n"


def _kept_part(key: str, text: msgspec.Raw, chosen: Container[int]) -> Iterator[bytes]:
    """Yield the records of a list that belong to the chosen images; anything but such a list stays as it is."""
    try:
        records = msgspec.json.decode(text, type=list[msgspec.Raw])
        keep = [image_id in chosen for image_id in _image_ids(key, records)]
    except msgspec.MsgspecError:
        yield bytes(text)
        return
    opening = b"["
    for record in compress(records, keep):
        yield opening + bytes(record)
        opening = b",\n"
    yield b"]" if opening != b"[" else b"[]"


def _image_ids(key: str, records: list[msgspec.Raw]) -> Iterator[int]:
    """Yield the image that each record is, or belongs to; raise MsgspecError for a record that names none."""
    if key == "images":
        image = msgspec.json.Decoder(_ImageKey)
        yield from (image.decode(record).id for record in records)
    else:
        member = msgspec.json.Decoder(_RecordKey)
        yield from (member.decode(record).image_id for record in records)
