"""Average precision by the rules of Pascal VOC: AP50 of 2007, with 11 points of recall, and of 2010, the whole area.

A detection belongs to the true box of its class that it overlaps most, if the two overlap by an IoU of at least 0.5.
The best detection of a box is right, every further one is wrong. What belongs to an object that is marked `ignore`
(`difficult`) counts neither as right nor as wrong, however many detections there are. So does what belongs to a crowd,
which VOC does not know. With n(k) right ones among the k best detections of a class with N objects that count,

    precision p(k) = n(k) / k',   recall r(k) = n(k) / N,   k' = those of the k that count,

    2007: mean over t = 0, 0.1, ..., 1 of max {p(k) : r(k) >= t};   2010: integral of max {p(k) : r(k) >= r} over r.

Source: Everingham et al. 2010, The Pascal Visual Object Classes (VOC) challenge, section 4.2, and the development kits
of 2007 and 2012. The kits count pixels from corner to corner with both ends. That is the IoU of boxes whose left and
upper edges lie one pixel further out; here corners are taken as they are, without this pixel.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64

from alloop.evaluation.coco_ap import ignored_objects
from alloop.geometry.boxes import pairwise_iou, wide_enough
from alloop.values import Annotations, Detections, ImageId

OVERLAP = 0.5  # IoU from which on a detection belongs to an object
NOBODY, FORGIVEN = -1, -2  # a detection that belongs to no object, and one that does not count


def voc_ap(
    truth: Mapping[ImageId, Annotations], detections: Mapping[ImageId, Detections], class_names: Sequence[str]
) -> dict[str, float | None]:
    """Return `voc_ap50` (2010) and `voc07_ap50` (2007): means over the classes with an object that counts.

    Args:
        truth: annotations by image; images without boxes count.
        detections: by image; an image that is missing has none. All of them count.
        class_names: in label order.

    Returns:
        Fractions of 1; None where no class has an object that counts.
    """
    labels, scores, owners = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)], [np.zeros(0, np.int64)]
    objects, first = np.zeros(len(class_names), dtype=np.int64), 0
    for image_id in sorted(truth):
        true = truth[image_id]
        objects += np.bincount(true.labels[true.trainable], minlength=len(class_names))
        if image_id in detections:
            given = detections[image_id]
            own = _owners(true, given)
            labels.append(given.labels)
            scores.append(given.scores)
            owners.append(np.where(own >= 0, own + first, own))
        first += len(true)
    all_labels, all_owners = np.concatenate(labels), np.concatenate(owners)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    rights = [
        _right(all_owners[order[all_labels[order] == label]]) if count else None for label, count in enumerate(objects)
    ]
    known = [(right, int(count)) for right, count in zip(rights, objects, strict=True) if right is not None]
    return {
        "voc_ap50": float(np.mean([_area(right, count) for right, count in known])) if known else None,
        "voc07_ap50": float(np.mean([_eleven_points(right, count) for right, count in known])) if known else None,
    }


def _owners(true: Annotations, given: Detections) -> Int64[np.ndarray, " n"]:
    """Return the row of the object that each detection of an image belongs to, else `NOBODY` or `FORGIVEN`."""
    forgiving = ignored_objects(true) | (true.crowd & wide_enough(true.boxes))
    rows = np.flatnonzero(true.trainable | forgiving)
    if not len(rows):
        return np.full(len(given), NOBODY, dtype=np.int64)
    iou = pairwise_iou(given.boxes.astype(np.float64), true.boxes[rows].astype(np.float64))
    iou[given.labels[:, None] != true.labels[rows][None, :]] = -1.0
    best = iou.argmax(axis=1)
    owner = np.where(forgiving[rows[best]], FORGIVEN, rows[best])
    return np.asarray(np.where(iou.max(axis=1) >= OVERLAP, owner, NOBODY), dtype=np.int64)


def _right(owners: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " k"]:
    """Return which detections of a class are right, best first, of those that count."""
    counted = owners[owners != FORGIVEN]
    right = np.zeros(len(counted), dtype=np.bool_)
    found, first_rows = np.unique(counted, return_index=True)
    right[first_rows[found != NOBODY]] = True
    return right


def _envelope(right: Bool[np.ndarray, " k"]) -> tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Return n(k), and the largest precision from the k-th detection on."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    return hits, np.maximum.accumulate(precision[::-1])[::-1]


def _area(right: Bool[np.ndarray, " k"], objects: int) -> float:
    """Return the integral of the largest precision over recall: each right detection adds a step of 1 / objects."""
    _, best = _envelope(right)
    return float(best[right].sum() / objects)


def _eleven_points(right: Bool[np.ndarray, " k"], objects: int) -> float:
    """Return the mean over 11 recalls of the largest precision there; whole numbers decide what is reached."""
    hits, best = _envelope(right)
    rows = np.searchsorted(10 * hits, np.arange(11) * objects)
    return float(np.append(best, 0.0)[rows].mean())
