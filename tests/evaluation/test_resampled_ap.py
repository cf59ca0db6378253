"""AP of a resample equals pycocotools on the data set whose images are physically repeated."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alloop.evaluation.coco_ap import BEYOND, coco_dicts, evaluate
from alloop.evaluation.matching import matched_detections
from alloop.evaluation.resampled_ap import resampled_ap
from alloop.values import Annotations, Detections
from tests.support.resamples import CLASSES, random_data, repeated


def coco_ap(truth, found, limit, thresholds=slice(None)):
    """AP by pycocotools; None where no class has a true box."""
    tree, results = coco_dicts(truth, found, CLASSES, "bbox")
    if not any(not record["iscrowd"] and record["area"] < BEYOND for record in tree["annotations"]):
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


@settings(max_examples=300)
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


def test_copies_of_an_image_stand_side_by_side_among_equal_scores():
    """A match and a false detection of equal score, twice: match, false, match, false."""
    truth = {5: Annotations([[0, 0, 10, 10]], [0], [False], [True])}
    found = {5: Detections([[0, 0, 10, 10], [50, 50, 60, 60]], [0.5, 0.5], [0, 0], np.full((2, 1), 0.5))}
    matched = matched_detections(truth, found, ["a"], {})
    once, twice = resampled_ap(matched, np.array([[1], [2]]))
    assert once == pytest.approx(1.0, abs=1e-12)
    assert twice == pytest.approx((51 * 1 + 50 * 2 / 3) / 101, abs=1e-12)


def test_a_large_resample_is_counted_in_parts(monkeypatch):
    from alloop.evaluation import resampled_ap as module

    truth, found = random_data(np.random.default_rng(3), 20, (0.25, 0.5, 0.75))
    matched = matched_detections(truth, found, list("abc"), {})
    copies = np.random.default_rng(4).integers(0, 4, (50, 20))
    whole = resampled_ap(matched, copies)
    monkeypatch.setattr(module, "_CELLS", 7)
    assert np.array_equal(resampled_ap(matched, copies), whole)
    assert resampled_ap(matched, copies[:0]).shape == (0,)


def test_a_class_without_a_true_box_in_the_resample_is_left_out_of_the_mean():
    box = [[0, 0, 10, 10]]
    truth = {k: Annotations(box, [k], [False], [True]) for k in range(2)}
    found = {0: Detections(box, [0.5], [0], np.full((1, 2), 0.5))}
    matched = matched_detections(truth, found, ["found", "missed"], {})
    values = resampled_ap(matched, np.array([[1, 1], [1, 0], [0, 3], [0, 0]]))
    assert values[:3] == pytest.approx([0.5, 1.0, 0.0], abs=1e-12)
    assert np.isnan(values[3])
