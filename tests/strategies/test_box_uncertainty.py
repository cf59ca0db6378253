"""Entropy, margin and least confidence by hand, and from boxes to images."""

import dataclasses

import numpy as np
import pytest

from alloop.strategy import make_strategy
from alloop.testing import FakeDetector, make_query
from alloop.values import Detections
from strategies import TABLE
from strategies.box_uncertainty import class_distribution
from strategies.entropy import detection_entropy
from strategies.least_confidence import detection_doubt
from strategies.margin import detection_closeness
from tests.support.detections import APART, UNIT, detections_of


def detections(*rows):
    p = np.array(rows, dtype=np.float64).reshape(len(rows), -1)
    return Detections(np.zeros((len(p), 4)), p.max(axis=1), p.argmax(axis=1), p)


def test_uncertainties_by_hand():
    found = detections([0.5, 0.25], [0.9, 0.0], [0.2, 0.1])
    assert detection_doubt(found) == pytest.approx([0.5, 0.1, 0.8])
    assert class_distribution(found)[0] == pytest.approx([0.5, 0.25, 0.25])
    assert detection_entropy(found)[0] == pytest.approx(1.5 * np.log(2))
    assert detection_closeness(found) == pytest.approx([0.75, 0.2, 0.5])


def test_sigmoid_posteriors_beyond_one_are_scaled():
    p = class_distribution(detections([0.9, 0.9]))
    assert p[0] == pytest.approx([0.5, 0.5, 0.0])
    assert detection_entropy(detections([0.9, 0.9]))[0] == pytest.approx(np.log(2))


@pytest.mark.parametrize(("aggregation", "expected"), [("max", 0.8), ("mean", 0.65), ("sum", 1.3)])
def test_box_to_image(aggregation, expected):
    class Two(FakeDetector):
        def detections(self, image_ids):
            return [detections([0.5, 0.0], [0.2, 0.0], [0.05, 0.0]) for _ in image_ids]

    query = dataclasses.replace(make_query(), detector=Two())
    selection = make_strategy("least_confidence", {"aggregation": aggregation}, TABLE).select(query)
    assert selection.utilities == pytest.approx([expected] * 9)


def test_images_without_detections_come_last():
    query = make_query(count=60)
    for name in ("entropy", "margin", "least_confidence"):
        selection = make_strategy(name, {}, TABLE).select(query)
        counts = np.array([len(d) for d in query.detector.detections(selection.image_ids)])
        empty = np.flatnonzero(counts == 0)
        assert len(empty) > 0
        assert empty.min() == len(counts) - len(empty)


@pytest.mark.parametrize(("aggregation", "chosen"), [("max", 0.1), ("min", 0.8), ("mean", 0.45)])
def test_least_max_and_mean_confidence(aggregation, chosen):
    class Two(FakeDetector):
        def detections(self, image_ids):
            return [detections_of([UNIT, APART], [0.8, 0.1], probabilities=[[0.9], [0.4]]) for _ in image_ids]

    query = dataclasses.replace(make_query(), detector=Two())
    parameters = {"aggregation": aggregation, "belief": "score", "score_threshold": 0.0}
    selection = make_strategy("least_confidence", parameters, TABLE).select(query)
    assert selection.utilities == pytest.approx([1 - chosen] * 9)


def test_the_binary_entropy_and_margin_of_the_score():
    class One(FakeDetector):
        def detections(self, image_ids):
            return [detections_of([UNIT], [0.25], probabilities=[[0.9]]) for _ in image_ids]

    query = dataclasses.replace(make_query(), detector=One())
    entropy = make_strategy("entropy", {"belief": "score"}, TABLE).select(query).utilities
    margin = make_strategy("margin", {"belief": "score"}, TABLE).select(query).utilities
    assert entropy == pytest.approx([-(0.25 * np.log(0.25) + 0.75 * np.log(0.75))] * 9)
    assert margin == pytest.approx([1 - 0.5] * 9)
