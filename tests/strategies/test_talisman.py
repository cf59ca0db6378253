"""Talisman: similarity of images, and the choice by every function."""

import dataclasses

import numpy as np
import pytest

from alloop.errors import StrategyError
from strategies.region_features import unit
from strategies.talisman import Objects, Talisman, similarity
from tests.support.queries import query


def test_likeness_of_images_is_that_of_their_best_boxes():
    boxes = unit(np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32))
    columns = Objects(boxes, np.zeros(7, np.int64), np.array([0, 0, 2, 3, 3, 3, 4]))
    rows = Objects(boxes[:3], np.zeros(3, np.int64), np.array([0, 0, 1]))
    found = similarity(rows, columns, 6)
    assert found.shape == (2, 6)
    for row, row_objects in enumerate([[0, 1], [2]]):
        for image in range(6):
            theirs = np.flatnonzero(columns.image == image)
            best = max((float(boxes[a] @ boxes[b]) for a in row_objects for b in theirs), default=-1.0)
            assert found[row, image] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("function", ["gcmi", "flqmi", "flvmi", "logdetmi"])
def test_every_information_chooses(function):
    selection = Talisman(annotations="true", function=function).select(query(count=20))
    assert len(set(selection.image_ids)) == 20
    assert np.isfinite(selection.utilities).all()


def test_classes_without_a_labeled_image_begin_with_random_ones():
    asked = query(labeled={}, count=12)
    chosen = Talisman(annotations="true", queries=2).select(asked)
    first = chosen.image_ids[:6]
    for label in range(3):
        assert sum(label in asked.truth[i].labels for i in first) >= 2
    other = dataclasses.replace(asked, random_seed=5)
    assert set(Talisman(annotations="true", queries=2).select(other).image_ids[:6]) != set(first)


def test_what_cannot_be_held_in_memory_is_refused(monkeypatch):
    monkeypatch.setattr("strategies.talisman.MOST_PAIRS", 100)
    with pytest.raises(StrategyError, match="choose flqmi"):
        Talisman(annotations="true", function="flvmi").select(query())


def test_the_classes_that_were_served_least_have_the_first_turns(monkeypatch):
    """A round that asks for fewer images than there are classes would serve the same classes again and again."""
    monkeypatch.setattr(Talisman, "_builder", lambda *_: lambda queries: int(queries.label[0]))
    labels = np.array([0, 0, 0, 1, 2, 2, 3, 3, 0])
    known = Objects(np.eye(9, dtype=np.float32), labels, np.array([0, 1, 2, 3, 4, 4, 5, 6, 7]))
    assert Talisman()._informations(known, known, [], 8) == [1, 2, 3, 0]
