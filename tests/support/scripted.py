"""A detector whose mask logits are given, state by state."""

import dataclasses

import numpy as np

from alloop.testing import FakeDetector, make_query
from alloop.values import Annotations, ImageId, MaskPixels


def pixels(logits, truth, labels=(0,)):
    """The mask pixels of one image; `logits [n, k, m, m]`."""
    return MaskPixels(np.array(logits, dtype=np.float32), np.array(labels), np.array(truth, dtype=np.bool_))


class Scripted(FakeDetector):
    """One pixel per instance; its logit is `logits[image][snapshot]`."""

    def __init__(self, logits):
        super().__init__()
        self._logits, self.snapshots = logits, len(next(iter(logits.values())))

    def mask_pixels(self, image_ids, annotations, snapshot):
        return [
            pixels(
                [[[[self._logits[i][snapshot]]], [[-9.0]]]] * len(annotations[i]),
                [[[1]]] * len(annotations[i]),
                [0] * len(annotations[i]),
            )
            if len(annotations[i])
            else MaskPixels(np.zeros((0, 2, 1, 1)), np.zeros(0), np.zeros((0, 1, 1), dtype=np.bool_))
            for i in image_ids
        ]


def scripted(logits, boxes, count=1):
    """A query over images 1, 2, 3, ... with `boxes[i]` instances each."""
    truth = {
        ImageId(i): Annotations(boxes=[[0, 0, 9, 9]] * n, labels=[0] * n, crowd=[False] * n, trainable=[True] * n)
        for i, n in boxes.items()
    }
    asked = make_query(unlabeled=1, labeled=1, count=1)
    return dataclasses.replace(asked, unlabeled=tuple(truth), truth=truth, detector=Scripted(logits), count=count)
