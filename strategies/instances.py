"""The instances that a label-using method scores: people's annotations, or what the detector sees itself."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from alloop.errors import StrategyError
from alloop.geometry.masks import encode_mask
from alloop.query import Need, Query
from alloop.values import Annotations, Detections, ImageId

Source = Literal["predicted", "true"]
Features = Literal["pooled", "classifier", "gradient"]
CHUNK = 256  # images whose detections or region features are held at once


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
    for start in range(0, len(ordered), CHUNK):
        ids = ordered[start : start + CHUNK]
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


def trainable(truth: Annotations) -> Annotations:
    """Only the boxes that may be trained on."""
    keep = truth.trainable
    return Annotations(truth.boxes[keep], truth.labels[keep], truth.crowd[keep], truth.trainable[keep])


def needs_of(features: Features) -> frozenset[Need]:
    """What features of regions ask of a detector."""
    return frozenset({Need.DETECTIONS, Need.REGION_FEATURES if features == "pooled" else Need.CLASSIFIER_FEATURES})


def region_vectors(query: Query, shown: Mapping[ImageId, Annotations], features: Features) -> list[np.ndarray]:
    """One vector a box, of each image in the order of `shown`."""
    image_ids, boxes = list(shown), {i: truth.boxes for i, truth in shown.items()}
    if features == "pooled":
        return query.detector.region_features(image_ids, boxes)
    seen = query.detector.classifier_outputs(image_ids, boxes)
    if features == "classifier":
        return [vectors for vectors, _ in seen]
    return [class_gradient(v, p, shown[i].labels) for i, (v, p) in zip(image_ids, seen, strict=True)]


def class_gradient(
    vectors: Float[np.ndarray, "n d"], probabilities: Float[np.ndarray, "n k"], labels: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, "n kd"]:
    """Gradient of the cross entropy in a linear classifier's weights: (p - e_y) outer r, flattened.

    Args:
        vectors: r, what the classifier sees.
        probabilities: p, the classes in label order and the background last.
        labels: y.
    """
    error = probabilities.copy()
    error[np.arange(len(labels)), labels] -= 1
    outer: np.ndarray = error[:, :, None] * vectors[:, None, :]  # [n, k, d]
    return outer.reshape(len(vectors), outer.shape[1] * outer.shape[2])
