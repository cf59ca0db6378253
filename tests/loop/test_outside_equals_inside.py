"""A detector outside that answers what alloop's own detector finds gives the same run: curve, purchases and ledger."""

from functools import partial

import numpy as np
import pytest

from alloop.config import parse_config
from alloop.errors import WaitingError
from alloop.ledger.store import open_ledger, read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.fitting import fitted, restored
from alloop.loop.opening import run_context
from alloop.progress import Progress
from strategies import TABLE
from tests.support import small_tree
from tests.support.outside import answered, digit_files, exchange, external_tree


def inside_tree(data, strategy):
    tree = small_tree(strategy=strategy)
    return tree | {"data": data, "loop": {"seed_set": 6, "query_size": 4, "rounds": 3}}


def detections_by_round(config, folder, cache):
    """Return what the detector of each round finds on every image of the pool and of the test split."""
    found = []
    with open_ledger(folder) as ledger:
        context = run_context(config, TABLE, ledger, (None, cache), Progress(quiet=True))
        for record in ledger.rounds():
            detector, splits = restored(context, record.round), context.experiment.splits
            views = {"pool": (splits.train, context.caches.pool), "test": (splits.test, context.caches.test)}
            images, features = {}, {}
            for split, pixels in views.values():
                ids, view = sorted(split.dataset.images), fitted(context, split, pixels, detector)
                images |= dict(zip(ids, view.detections(ids), strict=True))
                truth = split.dataset.annotations
                boxes = {i: np.concatenate([images[i].boxes, truth[i].boxes]) for i in ids}
                for image_id, vectors in zip(ids, view.region_features(ids, boxes), strict=True):
                    corners = map(corners_key, boxes[image_id].tolist())
                    features |= {(image_id, *key): v for key, v in zip(corners, vectors.tolist(), strict=True)}
            found.append((images, features))
    return found


def corners_key(corners):
    x1, y1, x2, y2 = corners
    return x1, y1, x2 - x1, y2 - y1


def boxes_of(detections, *, posteriors):
    box, rows = (
        exchange().Box,
        zip(
            detections.boxes.tolist(),
            detections.labels.tolist(),
            detections.scores.tolist(),
            detections.probabilities.tolist(),
            strict=True,
        ),
    )
    return [
        box(label, (x1, y1, x2 - x1, y2 - y1), score, p if posteriors else ())
        for (x1, y1, x2, y2), label, score, p in rows
    ]


def found_on(images, image, _classes, *, posteriors):
    return boxes_of(images[image.image_id], posteriors=posteriors)


def features_on(features, image, box):
    return features[image.image_id, *box.xywh]


def answered_from(found, tree, out, *, posteriors=True):
    """Run a detector outside that finds, in each round, what `found` has."""
    for waited in range(len(found) + 1):
        try:
            run_experiment(parse_config(tree), out, TABLE)
        except WaitingError:
            folder, (images, features) = out / "external" / f"round_{waited:03d}", found[waited]
            find = partial(found_on, images, posteriors=posteriors)
            answered(folder / "ask", folder / "tell", find, partial(features_on, features))
    with read_ledger(out) as ledger:
        return ledger.charges(), ledger.selections(), [(r.boxes, r.metrics, r.per_class) for r in ledger.rounds()]


@pytest.mark.parametrize("strategy", [{"name": "entropy"}, {"name": "margin"}, {"name": "csod"}])
def test_the_run_is_the_same(tmp_path, strategy):
    data = digit_files(tmp_path / "digits")
    config = parse_config(inside_tree(data, strategy))
    run_experiment(config, tmp_path / "inside", TABLE)
    with read_ledger(tmp_path / "inside") as ledger:
        rounds = [(r.boxes, r.metrics, r.per_class) for r in ledger.rounds()]
        expected = ledger.charges(), ledger.selections(), rounds
    found = detections_by_round(config, tmp_path / "inside", tmp_path / "cache")
    tree = external_tree(data, strategy=strategy["name"])
    assert answered_from(found, tree, tmp_path / "outside") == expected
    # AP needs no posterior, so scores alone give the same first point of the curve
    assert answered_from(found, tree, tmp_path / "scores", posteriors=False)[2][0] == expected[2][0]
