"""The tasks of a JSON export of Label Studio, from a file, a folder or a zip, in each of the shapes that it has had.

`JSON` lists tasks with `data` and `annotations`; the first versions called these `completions`. `JSON-MIN` lists one
row for each annotation: the data, and under the name of each control of the page a list of regions.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alloop.data.formats.label_studio_page import CONFIG, Page, parsed_page
from alloop.data.image_index import LISTED, is_hidden
from alloop.errors import DataError

NAME = "tasks.json"
HEAD = 1 << 16  # bytes that tell an export from other JSON
Task = Mapping[str, Any]
_OF_TASKS = (b'"annotations"', b'"completions"', b'"predictions"')
_OF_ANNOTATIONS = (b'"data"', b'"result"', b'"completed_by"', b'"was_cancelled"')
_OF_ROWS = (b'"annotation_id"', b'"original_width"', b'"rectanglelabels"')
_ABOUT_ROW = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time")


@dataclass(frozen=True, slots=True)
class Export:
    """The tasks, the labeling page beside them, and the file that messages name."""

    place: Path
    tasks: Sequence[Task]
    page: Page


@dataclass(frozen=True, slots=True)
class _Source:
    place: Path
    data: bytes
    page: bytes | None


def read_export(path: Path) -> Export:
    """Read an export, or the folder or zip that holds it. Each task has `data`, and its `annotations` if it has some.

    Raises:
        DataError: not such an export, or several in one folder.
    """
    try:
        source = _source(path)
        tree = json.loads(source.data.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        msg = f"{path}: expected a Label Studio JSON export, but it cannot be read ({error})"
        raise DataError(msg) from error
    page = parsed_page(source.page, source.place.parent / CONFIG) if source.page is not None else Page()
    return Export(source.place, _tasks(tree, source.place), page)


def looks_like_export(path: Path) -> bool:
    """Return whether a file, folder or zip holds an export; only the first bytes are read."""
    try:
        if path.is_dir():
            return (path / NAME).is_file() or bool(_in_folder(path))
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                return bool(_in_zip(archive))
        return path.is_file() and _is_export(_head(path))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return False


def _is_export(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a list of tasks or rows."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text.startswith(b"[") or not text[1:].lstrip().startswith(b"{"):
        return False
    has_tasks = any(word in text for word in _OF_TASKS) and any(word in text for word in _OF_ANNOTATIONS)
    return has_tasks or any(word in text for word in _OF_ROWS)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _source(path: Path) -> _Source:
    """Return the bytes of an export and of its page.

    Raises:
        DataError: a folder or zip without an export, or with several.
        OSError, zipfile.BadZipFile: it cannot be read.
    """
    if path.is_file() and path.suffix == ".zip":
        return _zip_source(path)
    file = path
    if path.is_dir():
        file = path / NAME if (path / NAME).is_file() else path / _only(_in_folder(path), path)
    page = file.parent / CONFIG
    return _Source(file, file.read_bytes(), page.read_bytes() if page.is_file() else None)


def _zip_source(path: Path) -> _Source:
    with zipfile.ZipFile(path) as archive:
        name = _only(_in_zip(archive), path)
        page = next((info for info in archive.namelist() if Path(info).name == CONFIG and not is_hidden(info)), None)
        return _Source(path / name, archive.read(name), archive.read(page) if page is not None else None)


def _in_folder(folder: Path) -> list[str]:
    files = (file for file in sorted(folder.glob("*.json")) if file.is_file() and not is_hidden(file.name))
    return [file.name for file in files if _is_export(_head(file))]


def _in_zip(archive: zipfile.ZipFile) -> list[str]:
    found = []
    for name in sorted(archive.namelist()):
        if name.endswith(".json") and not is_hidden(name):
            with archive.open(name) as file:
                if _is_export(file.read(HEAD)):
                    found.append(name)
    return found


def _only(names: Sequence[str], path: Path) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        msg = f"{path}: expected a Label Studio JSON export in it, found none; export the project as JSON"
        raise DataError(msg)
    listed = ", ".join(names[:LISTED])
    msg = f"{path}: holds {len(names)} Label Studio exports ({listed}); name the file that you mean"
    raise DataError(msg)


def _tasks(tree: Any, place: Path) -> list[Task]:
    if isinstance(tree, list) and not any(map(_is_task, tree)) and any(map(_is_row, tree)) and _are_objects(tree):
        return _tasks_of_rows(tree)
    if not isinstance(tree, list) or not all(map(_is_task, tree)):
        msg = f"{place}: expected a list of tasks with data, as Label Studio exports it as JSON; export it as JSON"
        raise DataError(msg)
    return [_renamed(task) for task in tree]


def _renamed(task: Task) -> Task:
    """Return a task of the first versions with the names of today."""
    if "completions" not in task or "annotations" in task:
        return task
    return {**task, "annotations": [_with_skip(completion) for completion in task["completions"] or []]}


def _with_skip(completion: Any) -> Any:
    if not isinstance(completion, dict) or not completion.get("skipped"):
        return completion
    return {**completion, "was_cancelled": True}


def _is_task(tree: Any) -> bool:
    return isinstance(tree, dict) and isinstance(tree.get("data"), dict)


def _are_objects(rows: Sequence[Any]) -> bool:
    return all(isinstance(row, dict) for row in rows)


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and ("annotation_id" in row or any(map(_are_regions, row.values())))


def _are_regions(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) and "original_width" in item for item in value)


def _tasks_of_rows(rows: Sequence[Mapping[str, Any]]) -> list[Task]:
    """Return the tasks of a minimal export: rows with the same id are annotations of one task."""
    tasks: dict[object, dict[str, Any]] = {}
    for number, row in enumerate(rows):
        data = {key: value for key, value in row.items() if key not in _ABOUT_ROW and not isinstance(value, list)}
        task = tasks.setdefault(repr(row.get("id", f"row {number}")), {"id": row.get("id"), "data": data})
        regions = [item for value in row.values() if isinstance(value, list) for item in value]
        annotation = {
            "id": row.get("annotation_id"),
            "completed_by": row.get("annotator"),
            "updated_at": row.get("updated_at") or "",
            "lead_time": row.get("lead_time"),
            "result": [_region_of_row(item) for item in regions if isinstance(item, dict)],
        }
        task.setdefault("annotations", []).append(annotation)
    return list(tasks.values())


def _region_of_row(value: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {key: value[key] for key in ("original_width", "original_height") if key in value}
    return {"value": {key: item for key, item in value.items() if key not in sizes}, **sizes}
