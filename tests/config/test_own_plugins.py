"""A plug-in beside the config is found, by the program that a user starts and by the workers of a study."""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest
import yaml

from alloop.plugins import look_in
from tests.support.projects import write_project

ROOT = Path(__file__).parents[2]
STRATEGY = """
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Smallest:
    source: ClassVar[str] = "test"

    @property
    def needs(self):
        return frozenset()

    def select(self, query):
        ids = sorted(query.unlabeled)
        return query.top(ids, [-float(i) for i in ids])
"""


@pytest.fixture
def project(tmp_path):
    """Return a config that names a strategy of a package beside it; the name is this test's own."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine.py").write_text(STRATEGY)
    changes = {"strategy": {"name": f"{name}.mine:Smallest"}, "training.iterations": 1}
    return write_project(tmp_path, **changes)


def alloop(*arguments, cwd):
    """Run the program in another folder; its own folder is not on the import path, as for an installed program."""
    program = "import sys; sys.path = [p for p in sys.path if p]; from alloop.cli.app import main; main()"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_a_strategy_beside_the_config_is_found_from_anywhere(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    ended = alloop("run", project, "--out", elsewhere / "run", cwd=elsewhere)
    assert ended.returncode == 0, ended.stderr
    own = yaml.safe_load(project.read_text())["strategy"]["name"]
    grid = ["--strategies", own, "--seeds", "0", "--workers", "2", "--out", elsewhere / "study"]
    ended = alloop("study", project, *grid, cwd=elsewhere)
    assert ended.returncode == 0, ended.stderr


def test_what_is_nowhere_is_told(project, tmp_path):
    project.write_text(project.read_text().replace(".mine:", ".yours:"))
    ended = alloop("check-data", project, cwd=tmp_path)
    assert ended.returncode == 2
    assert "is the package installed, or in the folder of the config?" in ended.stdout


def test_an_installed_module_goes_before_one_beside_the_config(project, tmp_path):
    (tmp_path / "numpy.py").write_text("raise RuntimeError('this is not numpy')")
    ended = alloop("check-data", project, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_a_package_in_editable_form_goes_before_one_beside_the_config(tmp_path, monkeypatch):
    """Its finder comes after the path, so the folder of the config must come after all finders."""
    name = f"late_{tmp_path.name.replace('-', '_')}"
    for folder, text in (("installed", "HERE = 'installed'"), ("beside", "HERE = 'beside'")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(text)
    (tmp_path / "beside" / f"own_{name}.py").write_text("HERE = 'beside'")

    class EditableFinder:
        @staticmethod
        def find_spec(wanted, _path=None, _target=None):
            file = tmp_path / "installed" / f"{wanted}.py"
            return spec_from_file_location(wanted, file) if wanted == name else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, EditableFinder])
    look_in(tmp_path / "beside")
    assert import_module(name).HERE == "installed"
    assert import_module(f"own_{name}").HERE == "beside"
