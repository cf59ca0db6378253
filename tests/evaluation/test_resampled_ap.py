"""AP of a resample equals pycocotools on the data set whose images are physically repeated."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alloop.evaluation.coco_ap import coco_dicts, evaluate
from alloop.evaluation.matching import matched_detections
from alloop.evaluation.resampled_ap import resampled_ap
from alloop.values import Annotations, Detections

CLASSES = 3


def repeated(per_image, copies):
    """The same images under new ids, each as often as it is taken, copies side by side."""
    each = [value for image_id, times in zip(sorted(per_image), copies, strict=True) for value in [image_id] * times]
    return {number: per_image[image_id] for number, image_id in enumerate(each)}


def coco_ap(truth, found, limit, thresholds=slice(None)):
    """AP by pycocotools; None where no class has a true box."""
    tree, results = coco_dicts(truth, found, CLASSES, "bbox")
    if not any(not record["iscrowd"] for record in tree["annotations"]):
        return None
    if not results:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        real = COCO()
        real.dataset = tree
        real.createIndex()
        evaluator = COCOeval(real, real.loadRes(results), "bbox")
        evaluator.params.maxDets = [limit]
        evaluator.evaluate()
        evaluator.accumulate()
    cells = evaluator.eval["precision"][thresholds, :, :, 0, 0]
    return float(cells[cells > -1].mean())


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


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 6),
    limit=st.sampled_from([None, 1, 2, 5]),
    scores=st.sampled_from([(0.5,), (0.25, 0.5, 0.75), tuple(np.linspace(0.01, 0.99, 500))]),
)
def test_ap_of_a_resample_is_that_of_the_repeated_images(seed, images, limit, scores):
    chance = np.random.default_rng(seed)
    truth, found = random_data(chance, images, scores)
    copies = np.concatenate([np.ones((1, images), dtype=np.int64), chance.integers(0, 4, (3, images))])
    matched = matched_detections(truth, found, list("abc"), {}, limit)
    ours, ours_50 = resampled_ap(matched, copies), resampled_ap(matched, copies, [0])
    for row, times in enumerate(copies):
        data = repeated(truth, times), repeated(found, times)
        for value, thresholds in ((ours[row], slice(None)), (ours_50[row], slice(0, 1))):
            theirs = coco_ap(*data, limit or 100, thresholds)
            assert value == pytest.approx(theirs, abs=1e-12) if theirs is not None else np.isnan(value)
    recorded = evaluate(truth, found, list("abc"), max_detections=limit).values["ap"]
    assert ours[0] == pytest.approx(recorded, abs=1e-12) if recorded is not None else np.isnan(ours[0])
