"""`alloop strategies`."""

import json
import os
import subprocess
import sys

from strategies import TABLE
from tests.support.commands import call


def test_strategies_lists_the_table():
    assert [row["name"] for row in json.loads(call("strategies", "--format", "json").output)] == list(TABLE)
    assert all(name in call("strategies").output for name in TABLE)


def completed(words):
    """Return what bash is told to complete the last of these words with."""
    text = " ".join(words)
    environment = {"_ALLOOP_COMPLETE": "complete_bash", "COMP_WORDS": text, "COMP_CWORD": str(len(words) - 1)}
    result = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['alloop']; from alloop.cli import main; main()"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.split()


def test_the_shell_completes_commands_options_and_names_of_strategies():
    assert completed(["alloop", "st"]) == ["study", "strategies", "status"]
    assert completed(["alloop", "study", "--strat"]) == ["--strategies"]
    assert completed(["alloop", "study", "--strategies", "entropy,le"]) == [
        "entropy,least_confidence",
        "entropy,learning_loss",
    ]
    assert completed(["alloop", "study", "--strategies", "al"]) == ["all"]
