"""Strategies are built by name, described, and their answers checked."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from alloop.errors import ConfigError, StrategyError
from alloop.query import Need
from alloop.strategy import (
    InstanceStrategy,
    LabelUsing,
    LossPrediction,
    checked_selection,
    depends_on_count,
    describe,
    loss_prediction_of,
    make_strategy,
    uses_labels,
)
from alloop.testing import make_query
from strategies import TABLE


def test_answers_that_are_none_are_refused():
    class Liar:
        needs: ClassVar = frozenset()

        def select(self, query):
            return list(query.unlabeled)

    with pytest.raises(StrategyError, match="expected a Selection"):
        checked_selection(Liar(), make_query())


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("entropi", {}, "did you mean 'entropy'"),
        ("entropy", {"agregation": "max"}, "did you mean 'aggregation'"),
        ("entropy", {"aggregation": "median"}, "aggregation"),
        ("no_such_package.module:Thing", {}, "cannot be imported"),
        ("strategies.entropy:Nothing", {}, "cannot be imported"),
        ("math:sqrt", {}, "to be a dataclass"),
    ],
)
def test_wrong_names_and_parameters_are_config_errors(name, parameters, words):
    with pytest.raises(ConfigError, match=words):
        make_strategy(name, parameters, TABLE)


def test_own_strategies_are_named_by_import_path_and_described():
    assert type(make_strategy("strategies.entropy:Entropy", {"aggregation": "max"}, {})).__name__ == "Entropy"
    rows = {row["name"]: row for row in describe(TABLE)}
    assert rows.keys() == TABLE.keys()
    assert rows["k_center"]["needs"] == ["embeddings"]
    assert rows["random"]["parameters"] == {}


@dataclasses.dataclass(frozen=True)
class Plain:
    """A strategy that declares nothing besides its needs."""

    source: ClassVar = "nowhere"

    @property
    def needs(self):
        return frozenset({Need.LOSS_PREDICTIONS})

    def select(self, query):
        return query.top(query.unlabeled, np.zeros(len(query.unlabeled)))


@dataclasses.dataclass(frozen=True)
class Declaring(Plain):
    annotations: str = "predicted"
    greedy: bool = True
    loss_prediction: ClassVar = LossPrediction(hidden=7)


def test_what_a_strategy_may_declare_besides():
    assert not uses_labels(Plain())
    assert not uses_labels(Declaring())
    assert uses_labels(Declaring(annotations="true"))
    assert not depends_on_count(Plain())
    assert depends_on_count(Declaring())
    assert not depends_on_count(Declaring(greedy=False))
    assert loss_prediction_of(Plain()) == LossPrediction()
    assert loss_prediction_of(Declaring()).hidden == 7
    assert loss_prediction_of(make_strategy("random", {}, TABLE)) is None


def test_what_the_strategies_of_the_table_declare():
    strategies = {name: make_strategy(name, {}, TABLE) for name in TABLE}
    assert {name for name, s in strategies.items() if isinstance(s, LabelUsing)} == {
        *("csod", "talisman", "tfdp", "ccs"),
        *("mask_entropy", "el2n", "aum", "forgetting"),
    }
    assert {name for name, s in strategies.items() if depends_on_count(s)} == {"csod", "talisman", "ccs"}
    assert {name for name, s in strategies.items() if isinstance(s, InstanceStrategy)} == {
        *("tfdp", "mask_entropy", "el2n", "aum", "forgetting")
    }
    settings = {"weight": 0.5, "margin": 2.0, "hidden": 16, "detach": False}
    assert loss_prediction_of(make_strategy("learning_loss", settings, TABLE)) == LossPrediction(**settings)


def test_needs_follow_the_parameters():
    for name, parameters, needs in (
        ("tfdp", {"annotations": "true"}, set()),
        ("tfdp", {}, {Need.DETECTIONS, Need.MASKS}),
        ("csod", {"features": "gradient"}, {Need.DETECTIONS, Need.CLASSIFIER_FEATURES}),
        ("talisman", {}, {Need.DETECTIONS, Need.REGION_FEATURES}),
    ):
        assert make_strategy(name, parameters, TABLE).needs == needs
