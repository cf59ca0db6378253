"""The changelog's table of moved modules leads to modules that exist."""

import importlib.util
import re
from pathlib import Path

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def test_every_new_path_exists_and_every_old_one_is_gone():
    moved = re.findall(r"^\| `(alloop\.[\w.]+)`[^|]*\| `(alloop\.[\w.]+)` \|$", CHANGELOG.read_text(), re.MULTILINE)
    assert len(moved) > 20
    for old, new in moved:
        assert importlib.util.find_spec(new) is not None, new
        assert not (CHANGELOG.parent / f"{old.replace('.', '/')}.py").is_file(), old
