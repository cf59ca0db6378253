"""TFDP (Dai et al. 2024): keep the images whose masks have the most complex outlines; no training.

For an instance with the outer contour q_1 .. q_n of its mask, in coordinates of pixel centres,

    P = sum_k |q_k+1 - q_k|        A = |sum_k (x_k y_k+1 - x_k+1 y_k)| / 2        q_n+1 = q_1
    SCS     S   = P / A                               shape complexity
    SI-SCS  S'  = S / (2 sqrt(pi / A))                scale invariant: 1 for a circle
    CB-SCS  S'' = S' / (sum of S' over its class)     class balanced
    image   I   = sum of S'' over its instances       (equations 1 to 5)

A contour without area (a line, a point, an empty mask) scores 0 and stays in its class's sum. Of a mask in several
parts only the largest contour counts, and holes do not. Images of largest I are kept; the sum of I over all images is
the number of classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi, sqrt
from typing import ClassVar, Literal

import cv2
import numpy as np

from alloop.errors import StrategyError
from alloop.geometry.masks import decode_patch
from alloop.query import Need, Query
from alloop.strategy import AnnotationSource
from alloop.values import Annotations, ImageId, InstanceScores, Segmentation, Selection
from strategies.instances import instances_of

Primary = Literal["largest", "first"]
SMALLEST_SIDE = 32  # pixels; smaller images are left out, as in the released code


def outline(
    segmentation: Segmentation, width: int, height: int, primary: Primary = "largest", name: str = "mask"
) -> tuple[float, float]:
    """Return perimeter and area of a mask's primary contour in pixels; (0, 0) for an empty mask.

    Args:
        segmentation: polygons or RLE as JSON.
        width: of the image in pixels.
        height: of the image in pixels.
        primary: the contour of largest area, or the first that OpenCV lists, which lies lowest.
        name: of the instance, for errors.

    Raises:
        DataError: a segmentation that does not describe an image of this size.
    """
    patch = decode_patch(segmentation, width, height, name).mask
    if not patch.size:
        return 0.0, 0.0
    contours, _ = cv2.findContours(patch, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return 0.0, 0.0
    several = primary == "largest" and len(contours) > 1
    contour = max(contours, key=cv2.contourArea) if several else contours[0]
    return cv2.arcLength(contour, True), cv2.contourArea(contour)  # noqa: FBT003  OpenCV names it `closed`


def shape_complexity(perimeter: float, area: float) -> float:
    """Return SCS, perimeter divided by area; 0 without area."""
    return perimeter / area if area > 0 else 0.0


def scale_invariant(perimeter: float, area: float) -> float:
    """Return SI-SCS, the SCS divided by that of the circle of the same area; 0 without area."""
    return shape_complexity(perimeter, area) / (2 * sqrt(pi / area)) if area > 0 else 0.0


def class_balanced(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return CB, each score `[n]` divided by the sum over its class; 0 where that is 0."""
    sums = np.bincount(labels, weights=scores, minlength=1)[labels] if len(labels) else scores
    balanced: np.ndarray = np.divide(scores, sums, out=np.zeros_like(scores), where=sums > 0)
    return balanced


@dataclass(frozen=True)
class Tfdp:
    """Choose the images whose masks have the most complex outlines.

    Attributes:
        annotations: score `predicted` masks, or the `true` ones, which only pruning and simulated studies allow.
        scale_invariant: SI; without it the plain complexity P / A.
        class_balanced: CB; without it a common class counts more.
        contour: of a mask in several parts, the `largest` contour or the `first`, as in the files published with
            the paper.
        score_threshold: detections of a lower score are no instances.
    """

    annotations: AnnotationSource = "predicted"
    scale_invariant: bool = True
    class_balanced: bool = True
    contour: Primary = "largest"
    score_threshold: float = 0.3

    source: ClassVar[str] = "Dai et al. 2024 (TFDP)"

    @property
    def needs(self) -> frozenset[Need]:
        """Need detections with masks; nothing where the masks are true."""
        return frozenset() if self.annotations == "true" else frozenset({Need.DETECTIONS, Need.MASKS})

    def select(self, query: Query) -> Selection:
        """Rank by score, largest first; images that score 0 come last, in random order."""
        return self.ranked(query, self.instance_scores(query))

    def ranked(self, query: Query, instances: InstanceScores) -> Selection:
        """Rank by the sum over the given instances, largest first."""
        image_ids = sorted(query.unlabeled)
        scores = instances.summed(np.array(image_ids, dtype=np.int64))
        return query.top(image_ids, scores, scored=scores > 0)

    def instance_scores(self, query: Query) -> InstanceScores:
        """Return the score of every instance that may be trained on, in images whose sides have at least 32 pixels.

        Raises:
            DataError: a malformed mask.
            StrategyError: an instance without a mask.
        """
        fields = [("image_id", np.int64), ("row", np.int64), ("label", np.int64), ("score", np.float64)]
        table = np.fromiter(self._complexities(query), dtype=fields)
        scores = class_balanced(table["label"], table["score"]) if self.class_balanced else table["score"]
        return InstanceScores(table["image_id"], table["row"], table["label"], scores)

    def _complexities(self, query: Query) -> Iterator[tuple[ImageId, int, int, float]]:
        """Yield image, annotation row, label and complexity of each instance, images ascending by id."""
        complexity = scale_invariant if self.scale_invariant else shape_complexity
        image_ids = sorted(query.unlabeled)
        annotations = instances_of(query, image_ids, self.annotations, self.score_threshold)
        for number, image_id in enumerate(image_ids, start=1):
            query.progress("scoring outlines", number, len(image_ids))
            width, height = query.sizes[image_id]
            if min(width, height) < SMALLEST_SIDE:
                continue
            truth = annotations[image_id]
            for row in np.flatnonzero(truth.trainable).tolist():
                name = f"image {image_id}, {truth.name_of(row)}"
                perimeter, area = outline(_mask(truth, row, name), width, height, self.contour, name)
                yield image_id, row, int(truth.labels[row]), complexity(perimeter, area)


def _mask(truth: Annotations, row: int, name: str) -> Segmentation:
    """Return the mask of one annotation; raise StrategyError where there is none."""
    mask = truth.masks[row]
    if mask is None:
        msg = f"{name}: has a box but no segmentation, and TFDP scores the outlines of masks; draw it first"
        raise StrategyError(msg)
    return mask
