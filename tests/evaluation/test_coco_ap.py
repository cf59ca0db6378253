"""AP equals pycocotools on thousands of random cases, and no odd number can raise it."""

import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from alloop.errors import AlloopError
from alloop.evaluation.coco_ap import coco_dicts, evaluate, precision_table
from alloop.values import Annotations, Detections, ImageId


def reference_table(tree, results, kind="bbox", limit=100):
    with contextlib.redirect_stdout(io.StringIO()):
        real = COCO()
        real.dataset = tree
        real.createIndex()
        evaluator = COCOeval(real, real.loadRes(results), kind)
        evaluator.params.maxDets = [limit]
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"][..., -1]


def random_case(chance, images=None, classes=3):
    """Truth and detections with empty images, crowds, ties and boxes on the size limits."""
    truth, found = {}, {}
    for image_id in chance.choice(10**6, images or int(chance.integers(1, 6)), replace=False):
        count = int(chance.integers(0, 6))
        corner, side = chance.uniform(0, 100, (count, 2)), chance.choice([4.0, 32.0, 50.0, 96.0, 120.0], (count, 2))
        crowd = chance.random(count) < 0.2
        truth[int(image_id)] = Annotations(
            np.concatenate([corner, corner + side], axis=1),
            chance.integers(0, classes, count),
            crowd,
            ~crowd & (chance.random(count) < 0.95),
        )
        near = int(chance.integers(0, 12))
        rows = chance.integers(0, count, near) if count else np.zeros(0, dtype=int)
        boxes = truth[int(image_id)].boxes[rows] + chance.choice([0, 1, 5, 20], (len(rows), 1))
        scores = chance.choice([0.1, 0.5, 0.5, 0.9], len(rows))
        order = np.argsort(-scores, kind="stable")
        found[int(image_id)] = Detections(
            boxes[order], scores[order], chance.integers(0, classes, len(rows)), np.full((len(rows), classes), 0.3)
        )
    return truth, found


def test_precision_equals_pycocotools_on_thousands_of_random_cases():
    chance, compared = np.random.default_rng(0), 0
    for _ in range(2000):
        truth, found = random_case(chance)
        tree, results = coco_dicts(truth, found, 3, "bbox")
        if not results or not tree["annotations"]:
            continue
        theirs = reference_table(copy.deepcopy(tree), copy.deepcopy(results))
        ours = precision_table(tree, results, "bbox")
        assert np.allclose(ours, theirs, atol=1e-12)
        compared += 1
    assert compared > 1500


def test_precision_equals_pycocotools_at_any_number_of_detections():
    chance, limited = np.random.default_rng(2), 0
    for _ in range(400):
        truth, found = random_case(chance, classes=2)
        limit = int(chance.integers(1, 8))
        tree, results = coco_dicts(truth, found, 2, "bbox")
        if not results or not tree["annotations"]:
            continue
        theirs = reference_table(copy.deepcopy(tree), copy.deepcopy(results), limit=limit)
        ours = precision_table(tree, results, "bbox", limit)
        assert np.allclose(ours, theirs, atol=1e-12)
        metrics = evaluate(truth, found, ["a", "b"], max_detections=limit)
        cells = theirs[..., 0][theirs[..., 0] > -1]
        assert metrics.values["ap"] == (pytest.approx(cells.mean(), abs=1e-12) if cells.size else None)
        whole = evaluate(truth, found, ["a", "b"])
        assert "ap_at_100" not in whole.values, "fewer than 100 detections: both figures are one"
        if metrics.values["ap"] != whole.values["ap"]:
            assert metrics.values["ap_at_100"] == whole.values["ap"]
            limited += 1
    assert limited > 100


def crowded(count):
    """One image with this many objects of one class, all found."""
    x, y = 10.0 * (np.arange(count) % 20), 10.0 * (np.arange(count) // 20)
    boxes = np.stack([x, y, x + 8, y + 8], axis=1).astype(np.float32)
    truth = Annotations(boxes, [0] * count, [False] * count, [True] * count)
    return {7: truth}, {7: Detections(boxes, np.linspace(0.9, 0.5, count), [0] * count, np.full((count, 1), 0.5))}


@pytest.mark.parametrize("count", [1, 99, 100, 101, 300])
def test_all_detections_count_and_the_figure_of_coco_stands_beside_them(count):
    values = evaluate(*crowded(count), ["cell"]).values
    assert values["ap"] == pytest.approx(1.0)
    assert ("ap_at_100" in values) == (count > 100)
    if count > 100:
        tree, results = coco_dicts(*crowded(count), 1, "bbox")
        theirs = reference_table(tree, results)[..., 0]
        assert values["ap_at_100"] == pytest.approx(theirs.mean(), abs=1e-12)
        assert values["ap_at_100"] == evaluate(*crowded(count), ["cell"], max_detections=100).values["ap"]


def test_masks_equal_pycocotools():
    chance = np.random.default_rng(1)
    for _ in range(30):
        truth, found, sizes = {}, {}, {}
        for image_id in range(3):
            sizes[image_id] = (40, 30)
            masks = [np.zeros((30, 40), dtype=np.uint8) for _ in range(3)]
            raw = []
            for mask in masks:
                y, x = int(chance.integers(0, 20)), int(chance.integers(0, 25))
                mask[y : y + 9, x : x + 12] = 1
                raw.append(f"[[{x},{y},{x + 11},{y},{x + 11},{y + 8},{x},{y + 8}]]".encode())
            boxes = np.array([[0, 0, 10, 10]] * 3, dtype=np.float32)
            truth[image_id] = Annotations(boxes, [0, 1, 1], [False] * 3, [True] * 3, tuple(raw))
            moved = np.stack([np.roll(m, int(chance.integers(0, 3)), axis=1) for m in masks])
            found[image_id] = Detections(boxes, [0.9, 0.8, 0.8], [0, 1, 0], np.full((3, 2), 0.5), moved)
        tree, results = coco_dicts(truth, found, 2, "segm", sizes)
        theirs = reference_table(copy.deepcopy(tree), copy.deepcopy(results), "segm")
        ours = precision_table(tree, results, "segm")
        assert np.allclose(ours, theirs, atol=1e-12)
    assert evaluate(truth, found, ["a", "b"], "segm", sizes).values["ap50"] > 0.3


def perfect(truth, classes=3):
    return {
        i: Detections(a.boxes, np.full(len(a), 0.9), a.labels, np.full((len(a), classes), 0.3))
        for i, a in truth.items()
    }


def one_box(labels=(0,)):
    count = len(labels)
    boxes = np.array([[10 * k, 0, 10 * k + 8, 40] for k in range(count)], dtype=np.float32)
    return Annotations(boxes, labels, [False] * count, [True] * count)


def test_a_perfect_detector_scores_one_whatever_the_ids():
    truth = {0: one_box((0, 1, 2)), 10**12: one_box((2,)), 5: one_box(())}
    metrics = evaluate(truth, perfect(truth), ["a", "b", "c"])
    assert metrics.values["ap"] == pytest.approx(1.0)
    assert all(value == pytest.approx(1.0) for value in metrics.per_class.values())


def test_no_detection_scores_zero_and_no_truth_scores_nothing():
    nothing = {0: Detections(np.zeros((0, 4)), [], [], np.zeros((0, 2)))}
    metrics = evaluate({0: one_box()}, nothing, ["a", "b"])
    assert metrics.values["ap"] == 0.0
    assert metrics.per_class == {"a": 0.0, "b": None}
    assert metrics.values["ap_large"] is None
    assert evaluate({0: one_box(())}, nothing, ["a"]).values["ap"] is None


def test_untrainable_records_do_not_count_and_crowds_are_ignored():
    truth = {
        0: Annotations(
            [[0, 0, 8, 40], [0, 0, 0, 0], [50, 50, 90, 90]], [0, 0, 0], [False, False, True], [True, False, False]
        )
    }
    found = {0: Detections([[0, 0, 8, 40], [55, 55, 85, 85]], [0.5, 0.9], [0, 0], np.full((2, 1), 0.5))}
    assert evaluate(truth, found, ["a"]).values["ap"] == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_never_reach_the_evaluation(bad):
    with pytest.raises(AlloopError, match="finite"):
        Detections([[0, 0, bad, 5]], [0.5], [0], [[0.5]])
    with pytest.raises(AlloopError, match="finite"):
        Detections([[0, 0, 5, 5]], [bad], [0], [[0.5]])
    with pytest.raises(AlloopError, match="finite"):
        Annotations([[0, 0, bad, 5]], [0], [False], [True])


def one_object(segmentation):
    """A box of 40 by 40 pixels, which is of medium size, and a detection that equals it."""
    box = np.array([[10.0, 10.0, 50.0, 50.0]])
    truth = {ImageId(1): Annotations(box, [0], [False], [True], masks=(segmentation,))}
    return truth, {ImageId(1): Detections(box, [0.9], [0], [[0.9]])}


@pytest.mark.parametrize(
    ("segmentation", "size"),
    [
        (None, "ap_medium"),
        (b"[[10,10,49,10,10,49]]", "ap_small"),  # half of the box: 820 pixels, and up to 32 x 32 is small
        (b"[[10,10,49,10,49,49,10,49]]", "ap_medium"),
        (b"[[1,2,3]]", "ap_medium"),  # damaged: a box does not need it
    ],
)
def test_an_object_is_as_large_as_its_mask(segmentation, size):
    """COCO's small, medium and large are areas of masks; a box is larger than what it holds."""
    truth, found = one_object(segmentation)
    values = evaluate(truth, found, ["a"], sizes={ImageId(1): (100, 100)}).values
    others = {"ap_small", "ap_medium", "ap_large"} - {size}
    assert values["ap"] == values[size] == 1
    assert all(values[name] is None for name in others)
    assert evaluate(truth, found, ["a"]).values["ap_medium"] == 1, "without the size of the image, masks are unknown"
