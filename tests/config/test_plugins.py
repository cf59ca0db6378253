"""Plug-ins: a name becomes a class, keys become parameters, and every mistake is one sentence."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from alloop.errors import ConfigError
from alloop.plugins import (
    load_class,
    make_plugin,
    path_parameters,
    plain_parameters,
    plugin_class,
    sibling_parameters,
)


@dataclasses.dataclass(frozen=True)
class Engine:
    """A plug-in with a required parameter, a limited one and a path."""

    fuel: str
    power: Annotated[float, Field(gt=0)] = 60
    manual: Path | None = None

    starts: ClassVar[bool] = True

    def run(self):
        """Run."""


@dataclasses.dataclass(frozen=True)
class Sail:
    """A sibling."""

    area: int = 10
    power: float = 1.0


class Plain:
    """No dataclass."""


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "drives", sys.modules[__name__])


TABLE = {"engine": "drives:Engine", "sail": "drives:Sail"}


def test_a_class_is_found_by_its_name_in_the_table_or_by_its_import_path():
    assert load_class("drive", "engine", TABLE) is Engine
    assert load_class("drive", "drives:Sail", TABLE) is Sail


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("engin", r"drive\.name: 'engin' is not in the table..did you mean 'engine'"),
        ("nowhere:Engine", r"drive\.name: 'nowhere:Engine' cannot be imported"),
        ("drives:Motor", r"drive\.name: 'drives:Motor' cannot be imported"),
        ("drives:Plain", "expected 'drives:Plain' to be a dataclass"),
        ("drives:pytest", "expected 'drives:pytest' to be a dataclass"),
        ("sail", "'sail' is no drive: its class Sail has no `run`"),
    ],
)
def test_a_name_that_is_no_plugin_is_refused(name, words):
    with pytest.raises(ConfigError, match=words):
        plugin_class("drive", name, TABLE, "power", "run")


def test_a_member_is_a_field_without_default_a_class_attribute_or_a_method():
    assert plugin_class("drive", "engine", TABLE, "fuel", "starts", "run") is Engine


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"fuel": "oil", "powr": 3}, r"drive\.powr: 'engine' has no such parameter..did you mean 'power'"),
        ({}, r"drive\.fuel: 'engine' needs this parameter, and it is missing"),
        ({"fuel": "oil", "power": 0}, r"drive\.power: .*greater than 0, found 0"),
        ({"fuel": "oil", "starts": False}, r"drive\.starts: 'engine' has no such parameter"),
    ],
)
def test_wrong_parameters_are_refused(parameters, words):
    with pytest.raises(ConfigError, match=words):
        make_plugin("drive", Engine, "engine", parameters)


def test_plain_parameters_make_the_same_plugin_again():
    engine = make_plugin("drive", Engine, "engine", {"fuel": "oil", "manual": "/a/b.pdf"})
    plain = plain_parameters(engine)
    assert plain == {"fuel": "oil", "power": 60.0, "manual": "/a/b.pdf"}
    assert make_plugin("drive", Engine, "engine", plain) == engine


def test_paths_and_the_parameters_of_siblings_are_known_from_the_fields():
    assert path_parameters(Engine) == {"manual"}
    assert sibling_parameters("drive", Engine, TABLE) == {"area": "sail"}
    assert sibling_parameters("drive", Sail, TABLE) == {"fuel": "engine", "manual": "engine"}
