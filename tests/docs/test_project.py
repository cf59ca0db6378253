"""What a stranger needs to use the project: licence, citation, version, and commands that exist."""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml

import alloop

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_licence_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["license"] == citation["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "Apache-2.0" in (ROOT / "README.md").read_text()


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == str(citation["version"]) == alloop.__version__


def test_the_citation_names_the_four_papers():
    papers = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    assert [paper["notes"].partition(":")[0] for paper in papers] == ["ISAL", "CSOD", "TFDP", "CI-SSOD"]
    assert all(paper["title"] and paper["authors"] and paper["year"] for paper in papers)


def test_every_make_target_of_the_documents_exists():
    ended = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = set(re.findall(r"^([a-z-]+):", ended.stdout, re.MULTILINE))
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        named = set(re.findall(r"`make ([a-z-]+)", document.read_text()))
        assert named <= targets, f"{document.name}: {named - targets}"


def test_ci_runs_both_commands_of_the_readme():
    commands = re.findall(r"^make (\S+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert commands == ["check", "wheel", "docs", "label-studio-install", "external-install", "demo", "test"]
    readme = (ROOT / "README.md").read_text()
    assert "make demo " in readme
    assert "make test " in readme
