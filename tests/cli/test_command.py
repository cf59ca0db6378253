"""What the wrapper of all commands does with errors."""

import pytest

from tests.support.commands import call


def test_an_unexpected_error_is_one_paragraph_without_traceback(finished, monkeypatch):
    def fail(*_arguments):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("alloop.results.status.status_blocks", fail)
    result = call("status", finished / "run", code=1)
    assert "unexpected ZeroDivisionError: by nothing" in result.output
    with pytest.raises(ZeroDivisionError):
        call("status", finished / "run", "--debug")
