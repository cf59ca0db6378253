"""AP of resampled test images as ratios to pycocotools, which matches or sorts again for each resample.

    python benchmarks/resampled_ap.py

500 images in 50 groups, 20 classes, 20,000 detections. Each round of the measurement times alloop on 200 resamples,
pycocotools' accumulation alone on some of them (the matches of repeated images are reused), and a whole evaluation by
faster-coco-eval and by pycocotools of one data set with repeated images. The best round counts. All four must agree.
"""

import contextlib
import copy
import io
import time
from collections.abc import Callable

import numpy as np

from alloop.evaluation.coco_ap import coco_dicts, precision_table
from alloop.evaluation.matching import matched_detections
from alloop.evaluation.resampled_ap import resampled_ap
from alloop.values import Annotations, Detections

IMAGES, GROUPS, CLASSES, BOXES, FOUND, RESAMPLES, ROUNDS = 500, 50, 20, 8, 40, 200, 3


def example() -> tuple[dict[int, Annotations], dict[int, Detections]]:
    chance = np.random.default_rng(0)
    truth, found = {}, {}
    for image_id in range(IMAGES):
        corner, side = chance.uniform(0, 400, (BOXES, 2)), chance.uniform(8, 150, (BOXES, 2))
        boxes = np.concatenate([corner, corner + side], axis=1)
        labels = chance.integers(0, CLASSES, BOXES)
        truth[image_id] = Annotations(boxes, labels, np.zeros(BOXES, bool), np.ones(BOXES, bool))
        rows = chance.integers(0, BOXES, FOUND)
        jitter = boxes[rows] + chance.normal(0, 8, (FOUND, 4))
        wrong = np.where(chance.random(FOUND) < 0.3, chance.integers(0, CLASSES, FOUND), labels[rows])
        scores = np.sort(chance.random(FOUND))[::-1]
        found[image_id] = Detections(jitter, scores, wrong, np.zeros((FOUND, CLASSES)))
    return truth, found


def evaluator_of(tree: dict, results: list[dict]) -> object:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    real = COCO()
    real.dataset = tree
    real.createIndex()
    evaluator = COCOeval(real, real.loadRes(results), "bbox")
    evaluator.params.maxDets = [100]
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
    return evaluator


def mean(precision: np.ndarray) -> float:
    return float(precision[precision > -1].mean())


def main() -> None:
    truth, found = example()
    started = time.perf_counter()
    matched = matched_detections(truth, found, list(map(str, range(CLASSES))), {})
    print(f"matching, once: {time.perf_counter() - started:.2f} s")
    drawn = np.random.default_rng(1).multinomial(GROUPS, [1 / GROUPS] * GROUPS, RESAMPLES)
    copies = np.repeat(drawn, IMAGES // GROUPS, axis=1)
    order = np.repeat(np.arange(IMAGES), copies[0])
    again = [dict(enumerate(per_image[i] for i in order)) for per_image in (truth, found)]
    tree, results = coco_dicts(*again, CLASSES, "bbox")
    with contextlib.redirect_stdout(io.StringIO()):
        once = evaluator_of(*coco_dicts(truth, found, CLASSES, "bbox"))
        once.evaluate()
    cells = np.array(once.evalImgs, dtype=object).reshape(CLASSES, IMAGES)
    values: dict[str, float] = {}

    def ours() -> None:
        values["alloop"] = float(resampled_ap(matched, copies)[0])

    def accumulate() -> None:
        for resample in (0, 1):
            own = np.repeat(np.arange(IMAGES), copies[resample])
            once.evalImgs = cells[:, own].ravel().tolist()
            once.params.imgIds = list(range(1, len(own) + 1))
            once._paramsEval = copy.deepcopy(once.params)  # noqa: SLF001  what `evaluate` would leave
            once.accumulate()
            values.setdefault("pycocotools, accumulation alone", mean(once.eval["precision"]))

    def fast() -> None:
        values["faster-coco-eval"] = mean(precision_table(tree, results, "bbox")[:, :, :, 0])

    def whole() -> None:
        evaluator = evaluator_of(copy.deepcopy(tree), copy.deepcopy(results))
        evaluator.evaluate()
        evaluator.accumulate()
        values["pycocotools"] = mean(evaluator.eval["precision"])

    timed: dict[str, tuple[Callable[[], None], int]] = {
        "alloop": (ours, RESAMPLES),
        "pycocotools, accumulation alone": (accumulate, 2),
        "faster-coco-eval": (fast, 1),
        "pycocotools": (whole, 1),
    }
    best = dict.fromkeys(timed, float("inf"))
    for _ in range(ROUNDS):
        for name, (function, resamples) in timed.items():
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                function()
            best[name] = min(best[name], (time.perf_counter() - started) / resamples)
    for name, seconds in best.items():
        assert abs(values[name] - values["alloop"]) < 1e-12, (name, values)
        print(f"{name:<32} {1e3 * seconds:9.3f} ms per resample; ratio {seconds / best['alloop']:.1f}")


if __name__ == "__main__":
    main()
