"""The instances that a label-using method scores: people's annotations, or what the detector sees itself."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from alloop.errors import StrategyError
from alloop.masks import encode_mask
from alloop.query import Query
from alloop.values import Annotations, Detections, ImageId

Source = Literal["predicted", "true"]
_CHUNK = 256  # images whose detections are held at once


def instances_of(
    query: Query, image_ids: Sequence[ImageId], source: Source, score_threshold: float
) -> Mapping[ImageId, Annotations]:
    """Annotations of each image: the truth, or detections of at least `score_threshold` in its place.

    Raises:
        StrategyError: the truth is asked for where it may not be seen.
    """
    if source == "true":
        if not all(image_id in query.truth for image_id in image_ids):
            msg = (
                "annotations: true looks at hidden labels, which exist only in pruning and in simulated studies; "
                "set strategy.annotations to predicted"
            )
            raise StrategyError(msg)
        return query.truth
    found: dict[ImageId, Annotations] = {}
    ordered = sorted(image_ids)
    for start in range(0, len(ordered), _CHUNK):
        ids = ordered[start : start + _CHUNK]
        for image_id, seen in zip(ids, query.detector.detections(ids), strict=True):
            found[image_id] = as_annotations(seen, score_threshold)
    return found


def as_annotations(seen: Detections, score_threshold: float) -> Annotations:
    """Detections as if a person had drawn them."""
    keep = seen.scores >= score_threshold
    boxes = seen.boxes[keep]
    return Annotations(
        boxes=boxes,
        labels=seen.labels[keep],
        crowd=np.zeros(len(boxes), dtype=np.bool_),
        trainable=((boxes[:, 2:] - boxes[:, :2]) >= 1).all(axis=1),
        masks=() if seen.masks is None else tuple(encode_mask(mask) for mask in seen.masks[keep]),
    )
