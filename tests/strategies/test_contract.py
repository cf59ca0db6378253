"""Every strategy of the table, and that of the docs, keeps the contract."""

from pathlib import Path

import pytest

from alloop.strategy import make_strategy
from alloop.testing import make_query, strategy_checks
from alloop.values import Annotations
from strategies import TABLE


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("check", strategy_checks(), ids=lambda check: check.__name__)
def test_contract(name, check):
    check(make_strategy(name, {}, TABLE))


def test_the_strategy_of_the_docs_keeps_the_contract(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    (tmp_path / "most_boxes.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    strategy = make_strategy("most_boxes:MostBoxes", {"score_threshold": 0.3}, {})
    for check in strategy_checks():
        check(strategy)
    assert strategy.score_threshold == 0.3


def test_annotations_are_never_needed_of_the_unlabeled():
    """The query has none, so a strategy that reads one fails here."""
    query = make_query()
    for name in ("influence", "learning_loss", "localization_stability", "localization_tightness"):
        selection = make_strategy(name, {}, TABLE).select(query)
        assert not set(selection.image_ids) & set(query.labeled)
    assert isinstance(next(iter(query.labeled.values())), Annotations)
