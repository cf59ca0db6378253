"""One image's annotations as JSON text and as a hash: what the ledger stores beside a charge."""

import hashlib
import json
import operator
from collections.abc import Iterable, Iterator

import numpy as np

from alloop.class_values import ClassLabel, Truth
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.values import Annotations, ImageId


def annotation_sha256(truth: Truth) -> str:
    """Return the sha256 of one image's annotations; a charge is booked for exactly these."""
    if isinstance(truth, ClassLabel):
        return class_label_sha256(truth)
    digest = hashlib.sha256()
    for column in (truth.boxes, truth.labels, truth.crowd, truth.trainable):
        digest.update(column.tobytes())
    for mask in truth.masks:
        digest.update(b"\0" if mask is None else mask)
    return digest.hexdigest()


def class_label_sha256(truth: ClassLabel) -> str:
    """Return the sha256 of the class of one image."""
    return hashlib.sha256(f"class {truth.label}".encode()).hexdigest()


def annotation_hashes(grouped: GroupedAnnotations, image_ids: Iterable[ImageId]) -> Iterator[str]:
    """Return `annotation_sha256` of each image, cut from the columns without making an object of it."""
    columns = (grouped.boxes, grouped.labels, grouped.crowd, grouped.trainable)
    boxes, labels, crowd, trainable = (
        np.ascontiguousarray(column).reshape(-1).view(np.uint8).data for column in columns
    )
    for image_id in image_ids:
        begin, end = grouped.span(image_id)
        masks = grouped.masks[begin:end] or (None,) * (end - begin)
        parts = boxes[16 * begin : 16 * end], labels[8 * begin : 8 * end], crowd[begin:end], trainable[begin:end]
        yield hashlib.sha256(b"".join((*parts, *(b"\0" if mask is None else mask for mask in masks)))).hexdigest()


def annotations_to_json(truth: Truth) -> str:
    """Encode annotations; `annotations_from_json` restores every number exactly."""
    if isinstance(truth, ClassLabel):
        return json.dumps({"labels": [truth.label]})
    return json.dumps(
        {
            "boxes": truth.boxes.tolist(),
            "labels": truth.labels.tolist(),
            "crowd": truth.crowd.tolist(),
            "trainable": truth.trainable.tolist(),
            "masks": [None if mask is None else bytes(mask).decode() for mask in truth.masks],
        },
        allow_nan=False,
        sort_keys=True,
    )


def annotations_from_json(text: str) -> Truth:
    """Decode what `annotations_to_json` wrote.

    Raises:
        ValueError, KeyError, TypeError: any other text.
    """
    tree = json.loads(text)
    if "boxes" not in tree:
        (label,) = tree["labels"]
        return ClassLabel(operator.index(label))
    return Annotations(
        boxes=np.array(tree["boxes"], dtype=np.float32).reshape(-1, 4),
        labels=tree["labels"],
        crowd=tree["crowd"],
        trainable=tree["trainable"],
        masks=tuple(None if mask is None else mask.encode() for mask in tree["masks"]),
    )
