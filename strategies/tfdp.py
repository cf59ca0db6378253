"""TFDP (Dai et al. 2024): keep the images whose masks have the most complex outlines; no training.

For an instance with the outer contour q_1 .. q_n of its mask, in coordinates of pixel centres,

    P = sum_k |q_k+1 - q_k|        A = |sum_k (x_k y_k+1 - x_k+1 y_k)| / 2        q_n+1 = q_1
    SCS     S   = P / A                               shape complexity
    SI-SCS  S'  = S / (2 sqrt(pi / A))                scale invariant: 1 for a circle
    CB-SCS  S'' = S' / (sum of S' over its class)     class balanced
    image   I   = sum of S'' over its instances       (equations 1 to 5)

A contour without area (a line, a point, an empty mask) scores 0 and stays in its class's sum. Of a
mask in several parts only the largest contour counts, and holes do not. Images of largest I are
kept; the sum of I over all images is the number of classes.
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
from alloop.values import ImageId, InstanceScores, Segmentation, Selection
from strategies.instances import Source, instances_of

Primary = Literal["largest", "first"]
SMALLEST_SIDE = 32  # pixels; smaller images are left out, as in the released code


def outline(
    segmentation: Segmentation, width: int, height: int, primary: Primary = "largest", where: str = "mask"
) -> tuple[float, float]:
    """Perimeter and area of a mask's primary contour; (0, 0) for an empty mask.

    Args:
        segmentation: polygons or RLE as JSON.
        width: of the image, in pixels.
        height: of the image, in pixels.
        primary: the contour of largest area, or the first that OpenCV lists, which lies lowest.
        where: named in errors.

    Raises:
        DataError: a segmentation that does not describe an image of this size.
    """
    patch = decode_patch(segmentation, width, height, where).mask
    if not patch.size:
        return 0.0, 0.0
    contours, _ = cv2.findContours(patch, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return 0.0, 0.0
    if len(contours) == 1 or primary == "first":
        contour, area = contours[0], cv2.contourArea(contours[0])
    else:
        contour, area = max(((c, cv2.contourArea(c)) for c in contours), key=lambda pair: pair[1])
    return cv2.arcLength(contour, True), area  # noqa: FBT003  OpenCV names it `closed`


def shape_complexity(perimeter: float, area: float) -> float:
    """SCS: perimeter by area; 0 without area."""
    return perimeter / area if area > 0 else 0.0


def scale_invariant(perimeter: float, area: float) -> float:
    """SI-SCS: SCS over that of the circle of the same area; 0 without area."""
    return shape_complexity(perimeter, area) / (2 * sqrt(pi / area)) if area > 0 else 0.0


def class_balanced(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """CB: each score `[n]` by the sum over its class; 0 where that is 0."""
    sums = np.bincount(labels, weights=scores, minlength=1)[labels] if len(labels) else scores
    balanced: np.ndarray = np.divide(scores, sums, out=np.zeros_like(scores), where=sums > 0)
    return balanced


@dataclass(frozen=True)
class Tfdp:
    """Images whose masks have the most complex outlines.

    Attributes:
        annotations: score `predicted` masks, or the `true` ones, which only pruning and simulated studies allow.
        scale_invariant: SI; without it the plain complexity P / A.
        class_balanced: CB; without it a common class counts more.
        contour: of a mask in several parts, the `largest` contour or the `first`, as in the files published with
            the paper.
        score_threshold: less confident predictions are no instances.
    """

    annotations: Source = "predicted"
    scale_invariant: bool = True
    class_balanced: bool = True
    contour: Primary = "largest"
    score_threshold: float = 0.3

    needs: ClassVar[frozenset[Need]] = frozenset({Need.DETECTIONS, Need.MASKS})
    source: ClassVar[str] = "Dai et al. 2024 (TFDP)"

    def __post_init__(self) -> None:
        """True masks ask nothing of a detector."""
        if self.annotations == "true":
            object.__setattr__(self, "needs", frozenset())

    def select(self, query: Query) -> Selection:
        """The images of largest score; those that score 0 come last, in random order."""
        return self.ranked(query, self.instance_scores(query))

    def ranked(self, query: Query, instances: InstanceScores) -> Selection:
        """The images by the sum over their instances."""
        image_ids = np.array(sorted(query.unlabeled), dtype=np.int64)
        scores = instances.summed(image_ids)
        ids = [ImageId(i) for i in image_ids.tolist()]
        return query.top(ids, scores, scored=scores > 0)

    def instance_scores(self, query: Query) -> InstanceScores:
        """The score of every instance that may be trained on, in images whose sides have at least 32 pixels.

        Raises:
            DataError: a malformed mask.
            StrategyError: an instance without a mask.
        """
        measure = scale_invariant if self.scale_invariant else shape_complexity
        found = np.fromiter(
            (
                (image_id, row, label, measure(*outline(mask, width, height, self.contour, where)))
                for image_id, row, label, mask, (width, height), where in self._masks(query)
            ),
            dtype=[("image_id", np.int64), ("row", np.int64), ("label", np.int64), ("score", np.float64)],
        )
        score = class_balanced(found["label"], found["score"]) if self.class_balanced else found["score"]
        return InstanceScores(found["image_id"], found["row"], found["label"], score)

    def _masks(self, query: Query) -> Iterator[tuple[ImageId, int, int, Segmentation, tuple[int, int], str]]:
        """Image, annotation row, label, mask, image size and name of each instance, images ascending by id."""
        image_ids = sorted(query.unlabeled)
        found = instances_of(query, image_ids, self.annotations, self.score_threshold)
        for number, image_id in enumerate(image_ids, start=1):
            query.progress("scoring outlines", number, len(image_ids))
            if min(query.sizes[image_id]) < SMALLEST_SIDE:
                continue
            truth = found[image_id]
            for row in np.flatnonzero(truth.trainable).tolist():
                mask, where = truth.masks[row], f"image {image_id}, {truth.name_of(row)}"
                if mask is None:
                    msg = (
                        f"{where}: has a box but no segmentation, and TFDP scores the outlines of masks; draw it first"
                    )
                    raise StrategyError(msg)
                yield image_id, row, int(truth.labels[row]), mask, query.sizes[image_id], where
