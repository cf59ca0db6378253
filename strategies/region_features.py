"""One feature vector per box, from the region that the box encloses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from alloop.errors import StrategyError
from alloop.query import Need, Query
from alloop.values import Annotations, ImageId
from strategies.instances import trainable
from strategies.streaming import IMAGES_WITH_REGIONS, chunked

Features = Literal["pooled", "classifier", "gradient"]


def region_needs(features: Features) -> frozenset[Need]:
    """Return what these features need: detections, and pooled or classifier features of regions."""
    return frozenset({Need.DETECTIONS, Need.REGION_FEATURES if features == "pooled" else Need.CLASSIFIER_FEATURES})


def region_vectors(query: Query, annotations: Mapping[ImageId, Annotations], features: Features) -> list[np.ndarray]:
    """Return the vectors `[n, d]` of the n boxes of each image, in the order of `annotations`."""
    image_ids = list(annotations)
    boxes = {i: truth.boxes for i, truth in annotations.items()}
    if features == "pooled":
        return query.detector.region_features(image_ids, boxes)
    outputs = query.detector.classifier_outputs(image_ids, boxes)
    if features == "classifier":
        return [vectors for vectors, _ in outputs]
    return [
        class_gradient(vectors, probabilities, annotations[image_id].labels)
        for image_id, (vectors, probabilities) in zip(image_ids, outputs, strict=True)
    ]


def stream_region_vectors(
    query: Query, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations], features: Features
) -> Iterator[tuple[ImageId, Int64[np.ndarray, " n"], Float[np.ndarray, "n d"]]]:
    """Yield each image, ascending by id, with labels and vectors of its boxes that may be trained on."""
    finished = 0
    for chunk in chunked(sorted(image_ids), IMAGES_WITH_REGIONS):
        boxes = {image_id: trainable(annotations[image_id]) for image_id in chunk}
        for image_id, vectors in zip(chunk, region_vectors(query, boxes, features), strict=True):
            yield image_id, boxes[image_id].labels, vectors
        finished += len(chunk)
        query.progress("region features", finished, len(image_ids))


def class_gradient(
    vectors: Float[np.ndarray, "n d"], probabilities: Float[np.ndarray, "n k"], labels: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, "n kd"]:
    """Return the gradient of the cross entropy in a linear classifier's weights: (p - e_y) outer r, flattened.

    Args:
        vectors: r, the classifier's input.
        probabilities: p, of the classes in label order and, last, of the background.
        labels: y.
    """
    error = probabilities.copy()
    error[np.arange(len(labels)), labels] -= 1
    outer: np.ndarray = error[:, :, None] * vectors[:, None, :]  # [n, k, d]
    return outer.reshape(len(vectors), outer.shape[1] * outer.shape[2])


def unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Scale vectors to length 1, in place, and return them; zero stays zero.

    Raises:
        StrategyError: vectors that are not finite.
    """
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    if not np.isfinite(lengths).all():
        msg = f"region features of row {int(np.flatnonzero(~np.isfinite(lengths))[0])} are not finite"
        raise StrategyError(msg)
    vectors /= np.where(lengths > 0, lengths, 1)[:, None]
    return vectors
