"""The page about the architecture shows the layers that the import checker enforces."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def layers_of_the_checker():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [[name.strip().removeprefix("alloop.") for name in layer.split("|")] for layer in layers]


def layers_of_the_page():
    section = (ROOT / "docs" / "architecture.md").read_text().split("## Layers")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (.+) \|$", section, re.MULTILINE)
    return [re.findall(r"`(\w+)`", names) for names, _ in rows]


def test_the_page_shows_the_layers_in_their_order():
    assert layers_of_the_page() == layers_of_the_checker()


def test_every_module_of_the_root_is_in_a_layer():
    named = {name for layer in layers_of_the_checker() for name in layer}
    modules = {path.stem for path in (ROOT / "alloop").glob("*.py")} - {"__init__", "__main__"}
    packages = {path.parent.name for path in (ROOT / "alloop").glob("*/__init__.py")}
    assert named == modules | packages


def test_the_map_of_the_readme_names_every_package():
    text = (ROOT / "README.md").read_text().split("## Map")[1]
    for package in (ROOT / "alloop").glob("*/__init__.py"):
        assert f" {package.parent.name}/ " in text, package.parent.name
