"""No module outside `alloop.ledger` speaks SQL or reaches for its database."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SQL = re.compile(
    r"^\s*(SELECT\b.*\bFROM\b|INSERT\b|UPDATE\b.*\bSET\b|DELETE\s+FROM\b|CREATE\s+TABLE\b|PRAGMA\b)", re.DOTALL
)
OUTSIDE = [
    path
    for package in ("alloop", "strategies")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.parent.name != "ledger"
]


def trespasses(source):
    """Line numbers of SQL strings and of attributes called `database`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value):
            yield node.lineno
        if isinstance(node, ast.Attribute) and node.attr == "database":
            yield node.lineno


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_sql_outside_the_ledger(path):
    assert list(trespasses(path.read_text())) == []


def test_the_check_finds_what_it_looks_for():
    store = (ROOT / "alloop" / "ledger" / "store.py").read_text()
    assert len(list(trespasses(store))) > 10
    assert list(trespasses('x = "SELECT a FROM b"')) == [1]
    assert list(trespasses("y = ledger.database.read")) == [1]
