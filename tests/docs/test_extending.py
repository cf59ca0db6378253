"""The plug-ins of the guide are complete files that keep the contracts, and configs can name them as it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from alloop.config import parse_config
from alloop.loop.engine import run_experiment
from strategies import TABLE
from tests.support import small_tree

GUIDE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
PYTHON = re.findall(r"^```python\n# (\S+)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
YAML = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)]


@pytest.fixture
def package(tmp_path):
    """A folder with the files of the guide, and its tests."""
    for name, text in PYTHON:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "my_package" / "__init__.py").touch()
    return tmp_path


def test_the_contract_tests_of_the_guide_pass(package):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "tests"]
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": f"{package}:{root}", "OMP_NUM_THREADS": "1", "PATH": ""}
    ended = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(list((package / "tests").glob("test_*.py"))) == 3


def test_a_run_uses_the_plug_ins_that_its_config_names(package, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(package)
    blocks = {key: block for tree in YAML for key, block in tree.items() if "name" in block}
    assert blocks.keys() == {"strategy", "detector", "oracle"}
    tree = small_tree(**{"loop.rounds": 2})
    tree["detector"] |= blocks["detector"] | {"backbone": "tiny", "weights": "none"}
    tree |= {"strategy": blocks["strategy"], "oracle": blocks["oracle"]}
    rounds = run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    assert [record.images for record in rounds] == [6, 10]
