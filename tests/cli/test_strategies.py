"""`alloop strategies`."""

import json

from strategies import TABLE
from tests.support.commands import call


def test_strategies_lists_the_table():
    assert [row["name"] for row in json.loads(call("strategies", "--format", "json").output)] == list(TABLE)
    assert all(name in call("strategies").output for name in TABLE)
