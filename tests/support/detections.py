"""Detections by hand."""

import numpy as np

from alloop.values import Detections


def detections_of(boxes, scores, proposals=None, probabilities=None):
    count = len(scores)
    if probabilities is None:
        probabilities = np.asarray(scores, dtype=np.float64)[:, None]
    boxes = np.asarray(boxes, dtype=np.float32).reshape(count, 4)
    return Detections(boxes, scores, np.zeros(count), probabilities, proposals=proposals)


UNIT = [0, 0, 10, 10]
HALF = [0, 0, 10, 5]  # IoU 1/2 with UNIT
APART = [50, 50, 60, 60]
