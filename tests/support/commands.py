"""Calls of the commands."""

from pathlib import Path

from typer.testing import CliRunner

from alloop.cli.app import app

ROOT = Path(__file__).parents[2]


def call(*arguments, code=0):
    """Call `alloop` and return the result, which must have this exit code and show no traceback."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result
