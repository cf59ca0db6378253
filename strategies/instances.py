"""The instances that a method scores: hidden annotations, or confident detections in their place."""

from collections.abc import Mapping, Sequence

import numpy as np

from alloop.errors import StrategyError
from alloop.geometry.masks import encode_mask
from alloop.query import Query, boxed
from alloop.strategy import AnnotationSource
from alloop.values import Annotations, Detections, ImageId
from strategies.streaming import stream_detections


def instances_of(
    query: Query, image_ids: Sequence[ImageId], source: AnnotationSource, score_threshold: float
) -> Mapping[ImageId, Annotations]:
    """Return annotations of each image: the `true` ones, or detections of at least `score_threshold`.

    Raises:
        StrategyError: true annotations are asked for where there are none.
    """
    if source == "predicted":
        stream = stream_detections(query, sorted(image_ids))
        return {image_id: as_annotations(detections, score_threshold) for image_id, detections in stream}
    if not all(image_id in query.truth for image_id in image_ids):
        msg = (
            "annotations: true looks at hidden labels, which exist only in pruning and in simulated studies; "
            "set strategy.annotations to predicted"
        )
        raise StrategyError(msg)
    return boxed(query.truth)


def as_annotations(detections: Detections, score_threshold: float) -> Annotations:
    """Return the detections of at least `score_threshold` as annotations."""
    keep = detections.scores >= score_threshold
    boxes = detections.boxes[keep]
    return Annotations(
        boxes=boxes,
        labels=detections.labels[keep],
        crowd=np.zeros(len(boxes), dtype=np.bool_),
        trainable=((boxes[:, 2:] - boxes[:, :2]) >= 1).all(axis=1),
        masks=() if detections.masks is None else tuple(encode_mask(mask) for mask in detections.masks[keep]),
    )


def trainable(truth: Annotations) -> Annotations:
    """Return only the boxes that may be trained on."""
    keep = truth.trainable
    return Annotations(truth.boxes[keep], truth.labels[keep], truth.crowd[keep], truth.trainable[keep])


def known_costs(
    source: AnnotationSource, annotations: Mapping[ImageId, Annotations], image_ids: Sequence[ImageId]
) -> np.ndarray | None:
    """Return the number of boxes of each image where they are true, and None where they are predictions.

    The cost of images without true annotations is predicted by the loop, in the same way for all strategies.
    """
    if source == "predicted":
        return None
    return np.array([len(annotations[image_id]) for image_id in image_ids])
