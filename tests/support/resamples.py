"""Random test data whose images can be repeated, as a resample repeats them."""

import numpy as np

from alloop.values import Annotations, Detections

CLASSES = 3


def repeated(per_image, copies):
    """The same images under new ids, each as often as it is taken, copies side by side."""
    each = [value for image_id, times in zip(sorted(per_image), copies, strict=True) for value in [image_id] * times]
    return {number: per_image[image_id] for number, image_id in enumerate(each)}


def random_data(chance, images, scores):
    """Images with crowds, records that do not count, several detections of a box, and scores that often are equal."""
    truth, found = {}, {}
    for image_id in sorted(int(i) for i in chance.choice(10**6, images, replace=False)):
        count = int(chance.integers(0, 6))
        corner, side = chance.uniform(0, 60, (count, 2)), chance.choice([4.0, 20.0, 50.0], (count, 2))
        crowd = chance.random(count) < 0.25
        boxes = np.concatenate([corner, corner + side], axis=1)
        labels = chance.integers(0, CLASSES, count)
        truth[image_id] = Annotations(boxes, labels, crowd, ~crowd & (chance.random(count) < 0.95))
        near = int(chance.integers(0, 14)) if count else 0
        rows = chance.integers(0, max(count, 1), near)
        moved = truth[image_id].boxes[rows] + chance.choice([0, 1, 3, 20], (near, 1))
        confidence = chance.choice(scores, near)
        order = np.argsort(-confidence, kind="stable")
        classes = np.where(chance.random(near) < 0.8, labels[rows], chance.integers(0, CLASSES, near))
        found[image_id] = Detections(moved[order], confidence[order], classes[order], np.full((near, CLASSES), 0.3))
    return truth, found


def detected_worse(found, share, seed):
    """The same detections without some of them: each stays with this probability."""
    chance = np.random.default_rng(seed)
    worse = {}
    for image_id, one in found.items():
        rows = np.flatnonzero(chance.random(len(one)) < share)
        worse[image_id] = Detections(one.boxes[rows], one.scores[rows], one.labels[rows], one.probabilities[rows])
    return worse
