"""What the ledger stores of one image comes back exactly, and has a hash of its own."""

import dataclasses
import json

import numpy as np
import pytest

from alloop.data.annotation_json import annotation_sha256, annotations_from_json, annotations_to_json
from alloop.values import Annotations

TRUTH = Annotations(
    boxes=np.array([[0.1, 0.2, 30.7, 40.9], [1 / 3, 2, 3, 4]], dtype=np.float32),
    labels=[2, 0],
    crowd=[False, True],
    trainable=[True, False],
    masks=(b'{"size": [2, 2], "counts": [4]}', None),
)


def test_every_number_comes_back_exactly():
    again = annotations_from_json(annotations_to_json(TRUTH))
    assert annotation_sha256(again) == annotation_sha256(TRUTH)
    assert again.boxes.tobytes() == TRUTH.boxes.tobytes()
    assert again.masks == TRUTH.masks
    empty = Annotations(np.zeros((0, 4)), [], [], [])
    assert len(annotations_from_json(annotations_to_json(empty))) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"boxes": TRUTH.boxes + np.float32(1e-5)},
        {"labels": [2, 1]},
        {"crowd": [False, False]},
        {"trainable": [True, True]},
        {"masks": (None, None)},
    ],
)
def test_the_hash_covers_every_column(change):
    assert annotation_sha256(dataclasses.replace(TRUTH, **change)) != annotation_sha256(TRUTH)


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"boxes": [[1, 2, 3, 4]]})])
def test_another_text_raises(text):
    with pytest.raises((ValueError, KeyError, TypeError)):
        annotations_from_json(text)
