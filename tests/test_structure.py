"""The layout keeps its laws: no import cycle, few modules in the root, no file for odds and ends, short functions."""

import ast
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for package in ("alloop", "strategies") for path in (ROOT / package).rglob("*.py"))


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def only_for_types(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imported(node):
    """Names of all modules that a piece of code imports, also inside functions, but not for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if only_for_types(child):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        else:
            yield from imported(child)


def arrows(sources):
    """The modules that each module imports; `from package import name` is the module of that name, if there is one."""
    graph = {}
    for name, source in sources.items():
        imports = imported(ast.parse(source))
        targets = {target if target in sources else target.rpartition(".")[0] for target in imports}
        graph[name] = (targets & sources.keys()) - {name}
    return graph


def cycle(graph):
    """A list of modules that import each other in a circle; empty where there is none."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        path.append(name)
        for target in sorted(graph[name]):
            found = visit(target)
            if found:
                return found
        path.pop()
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name))), [])


def test_no_module_imports_itself_by_a_detour_counting_imports_inside_functions():
    assert cycle(arrows({name: path.read_text() for name, path in MODULES.items()})) == []


def test_the_search_for_cycles_finds_one_inside_a_function():
    sources = {"a": "import b", "b": "def f():\n    from c import x", "c": "from a import y", "d": "import a"}
    assert sorted(cycle(arrows(sources))) == ["a", "b", "c"]
    hidden = {**sources, "c": "if TYPE_CHECKING:\n    from a import y"}
    assert cycle(arrows(hidden)) == []


def test_the_root_of_the_package_has_at_most_twelve_modules():
    assert len(list((ROOT / "alloop").glob("*.py"))) <= 12


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_is_named_for_one_concern_and_short(path):
    assert path.stem not in {"utils", "util", "common", "helpers", "misc"}
    assert len(path.read_text().splitlines()) <= 300


def sizes():
    """Lines of each function without its docstring."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                first = node.body[0]
                documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                docstring = first.end_lineno - first.lineno + 1 if documented else 0
                yield node.end_lineno - node.lineno + 1 - docstring


def test_functions_are_short():
    lengths = sorted(sizes())
    assert statistics.median(lengths) <= 7
    assert lengths[int(0.9 * len(lengths))] <= 22
