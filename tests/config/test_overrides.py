"""Keys that `--set` changes, variables, and paths of a config."""

from pathlib import Path

import yaml

from alloop.config import load_config, parse_config
from tests.support import small_tree


def test_paths_are_relative_to_the_config_and_variables_are_replaced(tmp_path, monkeypatch):
    tree = small_tree(
        data={"train": {"annotations": "a.json", "images": "${PICTURES}/x"}, "test": {"annotations": "b.json"}}
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setenv("PICTURES", "/srv/pictures")
    config = load_config(tmp_path / "sub" / "c.yaml")
    assert config.data.train.annotations == tmp_path / "sub" / "a.json"
    assert config.data.train.images == Path("/srv/pictures/x")


def test_a_new_strategy_by_override_drops_the_old_ones_parameters_in_any_order(tmp_path):
    tree = small_tree(strategy={"name": "entropy", "aggregation": "max"})
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    other = load_config(tmp_path / "c.yaml", ["strategy.aggregation=mean", "strategy.name=margin"])
    assert (other.strategy.name, other.strategy.parameters) == ("margin", {"aggregation": "mean"})
    assert load_config(tmp_path / "c.yaml", ["strategy.name=k_center"]).strategy.parameters == {}
    assert load_config(tmp_path / "c.yaml", ["strategy.name=entropy"]).strategy.parameters == {"aggregation": "max"}


def test_the_resolved_config_is_a_config():
    config = parse_config(small_tree())
    assert parse_config(yaml.safe_load(config.to_yaml())) == config
