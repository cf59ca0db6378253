"""Links and names in README and docs point at something that exists."""

import re
from pathlib import Path

import pytest

from alloop.cli.app import COMMANDS
from strategies import TABLE

ROOT = Path(__file__).parents[2]
OUTSIDE = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
DOCUMENTS = [*OUTSIDE, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "benchmarks" / "results").glob("*.md"))]
CURRENT = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]  # the changelog also names what was
PRIVATE = re.compile(
    r"\b(told|untold|taught|believ\w+|lessons?|befall\w*|shall say|by heart|so often)\b", re.IGNORECASE
)
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_exists(document):
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.name != "CHANGELOG.md"],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_every_file_that_is_named_with_its_folder_exists(document):
    named = re.compile(r"`((?:alloop|strategies|benchmarks|configs|tests|docs)/(?!NAME)[\w./]+\.\w+)`")
    for path in named.findall(document.read_text()):
        assert (ROOT / path).exists(), path


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_the_readme_names_every_command_and_every_strategy():
    text = (ROOT / "README.md").read_text()
    for command in COMMANDS:
        assert f"alloop {command}" in text
    for name in TABLE:
        assert f"`{name}`" in text


@pytest.mark.parametrize("document", ["README.md", "docs/strategies.md"])
def test_the_tables_of_strategies_are_the_table_of_strategies(document):
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / document).read_text(), re.MULTILINE)
    assert rows == list(TABLE)


def test_the_titles_of_decisions_have_one_form_and_the_list_of_decisions_has_them_all():
    listed = (ROOT / "docs" / "decisions" / "README.md").read_text()
    for number, path in enumerate(DECISIONS, start=1):
        title = path.read_text().splitlines()[0]
        assert re.fullmatch(rf"# {number:04d}: [A-Z].*[^.]", title), f"{path.name}: {title}"
        assert path.name.startswith(f"{number:04d}-"), path.name
        assert f"[{title.removeprefix('# ')}]({path.name})" in listed, path.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_text_uses_the_words_of_the_field(document):
    assert not PRIVATE.findall(document.read_text())
