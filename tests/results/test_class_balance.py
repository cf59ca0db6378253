"""Boxes and AP of each class."""

import numpy as np
import pytest

from alloop.config.reading import parse_config
from alloop.data.splits import load_splits
from alloop.ledger.store import read_ledger
from alloop.report.text import class_blocks
from alloop.results.class_balance import ClassBalance, StrategyClasses, class_balance, class_divergence, class_entropy
from alloop.results.compare import compare_runs
from alloop.results.runs import find_runs
from alloop.tables import plain
from tests.support import small_tree
from tests.support.runs import write_run


def test_classes_are_recounted_from_what_was_paid(study):
    comparison = compare_runs([study[0] / "name=fcos"])
    balance = class_balance(comparison)
    assert len(balance.names) == 10
    for one in balance.strategies:
        runs = [r for r in comparison.runs if r.strategy == one.strategy]
        expected = np.zeros((3, 10))
        for r in runs:
            with read_ledger(r.folder) as ledger:
                truths, charges = ledger.labeled(), ledger.charges()
            for charge in charges:
                expected[charge.round :] += np.bincount(truths[charge.image_id].labels, minlength=10) / len(runs)
        assert one.bought == pytest.approx(expected)
        assert one.bought[-1].sum() == pytest.approx(np.mean([r.rounds[-1].boxes for r in runs]))
        assert one.entropy()[-1] == pytest.approx(class_entropy(expected[-1]))
        assert one.divergence(balance.pool)[-1] == pytest.approx(class_divergence(expected[-1], balance.pool))
    pool = load_splits(parse_config(small_tree()).data).train.dataset
    assert balance.pool.sum() == pool.boxes
    assert balance.names == pool.class_names
    assert "KL from the pool" in plain(*class_blocks(balance))


def test_rare_classes_and_ap_at_equal_cost_by_hand(tmp_path):
    aps = {"random": [0.2, 0.4], "entropy": [0.2, 0.6]}
    for name, values in aps.items():
        write_run(tmp_path / name, name, 0, values, classes=["cat", "dog", "bird"], pool=[10, 5, 0])
    balance = class_balance(compare_runs([tmp_path]))
    assert balance.rare == ["dog"], "a third of two classes, one at least; the class without a box is not rare"
    assert balance.paid == min(r.rounds[-1].boxes for r in find_runs([tmp_path]))
    random, entropy = balance.strategies
    assert random.ap == pytest.approx({"cat": 0.4, "dog": None, "bird": None})
    assert entropy.ap_of(["cat", "dog"]) == pytest.approx(0.6)
    assert entropy.ap_of(balance.rare) is None
    write_run(tmp_path / "old" / "r", "random", 0, [0.1])
    assert class_balance(compare_runs([tmp_path / "old"])) is None
    assert class_blocks(None) == ["These runs did not record their classes."]


def test_groups_of_classes_by_hand():
    names, images = tuple("abcdef"), np.array([1.0, 10, 11, 100, 101, 0])
    bought = StrategyClasses("random", np.ones((1, 6)), dict.fromkeys(names, 0.5))
    balance = ClassBalance(names, np.array([1.0, 20, 30, 400, 500, 0]), (bought,), 1.0, images)
    assert balance.groups == {
        "majority": ["c", "d", "e"],
        "minority (*)": ["a", "b"],
        "rare (1 to 10 images)": ["a", "b"],
        "common (to 100)": ["c", "d"],
        "frequent": ["e"],
    }
