"""Accuracy against a slow count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.evaluation.accuracy import accuracy


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 9))
def test_accuracy_is_a_count(seed, images, classes):
    random = np.random.default_rng(seed)
    labels, probabilities = random.integers(0, classes, images), random.random((images, classes)).round(1)
    names = [f"class {k}" for k in range(classes)]
    right = [max(range(classes), key=lambda k, row=row: (row[k], -k)) for row in probabilities.tolist()]
    measured = accuracy(labels, probabilities, names)
    assert measured.values["accuracy"] == pytest.approx(np.mean([a == b for a, b in zip(right, labels, strict=True)]))
    of_class = {}
    for k, name in enumerate(names):
        own = [guess == k for guess, label in zip(right, labels, strict=True) if label == k]
        of_class[name] = pytest.approx(sum(own) / len(own)) if own else None
    assert measured.per_class == of_class
    known = [value for value in measured.per_class.values() if value is not None]
    assert measured.values["mean_class_accuracy"] == pytest.approx(np.mean(known))
    ranks = [sorted(range(classes), key=lambda k, row=row: (-row[k], k)) for row in probabilities.tolist()]
    top = np.mean([label in rank[:5] for rank, label in zip(ranks, labels, strict=True)])
    assert measured.values["top5_accuracy"] == (pytest.approx(top) if classes > 5 else None)


def test_without_an_image_nothing_is_known():
    measured = accuracy(np.zeros(0, dtype=np.int64), np.zeros((0, 7)), "abcdefg")
    assert set(measured.values.values()) == {None}
    assert set(measured.per_class.values()) == {None}
