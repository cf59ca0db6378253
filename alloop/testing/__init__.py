"""Contract checks for plug-ins, published so that users run them on their own.

    import pytest
    from alloop.testing import strategy_checks

    @pytest.mark.parametrize("check", strategy_checks(), ids=lambda check: check.__name__)
    def test_contract(check):
        check(MyStrategy())

Each check is a plain function that raises AssertionError with what was expected and what was found. Its docstring says
what it refuses.
"""

from alloop.testing.detectors import detector_checks
from alloop.testing.fakes import FakeDetector, fake_annotations, make_query
from alloop.testing.formats import format_checks
from alloop.testing.oracles import OracleCase, fake_pool, human_oracle_checks, revealing_oracle_checks
from alloop.testing.strategies import strategy_checks

__all__ = [
    "FakeDetector",
    "OracleCase",
    "detector_checks",
    "fake_annotations",
    "fake_pool",
    "format_checks",
    "human_oracle_checks",
    "make_query",
    "revealing_oracle_checks",
    "strategy_checks",
]
