"""The page of all keys."""

from pathlib import Path

from alloop.config.reference import config_reference

ROOT = Path(__file__).parents[2]


def test_the_config_reference_is_what_the_models_say():
    assert (ROOT / "docs" / "config.md").read_text() == config_reference()
