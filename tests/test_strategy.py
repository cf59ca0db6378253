"""Strategies are built by name, described, and their answers checked."""

from typing import ClassVar

import pytest

from alloop.errors import ConfigError, StrategyError
from alloop.strategy import checked_selection, describe, make_strategy
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
