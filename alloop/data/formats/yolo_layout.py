"""Where the files of a YOLO data set lie: texts, images, and the names of the classes.

These layouts are known, with `data.yaml` or another list of names in the folder or up to three folders above it:

    labels/... beside images/...                 the whole set
    labels/train beside images/train             one split, given as labels/train
    train/labels beside train/images             one split, given as train
    a.jpg beside a.txt, also in sub-folders      darknet, and CVAT's export
    texts alone                                  with the folder of the images given beside them
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alloop.data.formats.format import Hints
from alloop.data.formats.yolo_lines import text_lines
from alloop.data.image_index import ImageIndex, index_of_folder, is_hidden
from alloop.data.notes import Notes
from alloop.errors import DataError

YAML = (".yaml", ".yml")
LISTS = ("classes.txt", "obj.names", "_darknet.labels")  # one name a line
NO_LABELS = frozenset({"classes.txt", "predefined_classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt"})


@dataclass(frozen=True, slots=True)
class Names:
    """The classes of a data set, the numbers of keypoints after each box, and the file that says so."""

    classes: tuple[str, ...]
    keypoint_numbers: int
    file: Path | None


def yolo_roots(path: Path) -> tuple[Path, Path]:
    """Return the folders of the label files and of the images."""
    folder = path.parent if path.suffix in YAML else path
    if (folder / "labels").is_dir():
        return folder / "labels", folder / "images"
    if "labels" in folder.parts:
        last = len(folder.parts) - 1 - folder.parts[::-1].index("labels")
        return folder, Path(*folder.parts[:last], "images", *folder.parts[last + 1 :])
    if not (folder / "images").is_dir():
        return folder, folder  # images and texts together, or texts alone
    return folder / "labels", folder / "images"


def looks_like_yolo(path: Path) -> bool:
    """Return whether a file or folder looks like a YOLO data set."""
    if path.suffix in YAML:
        return path.is_file()
    if not path.is_dir():
        return False
    has_texts = any(not _is_list(file.name) for file in path.glob("*.txt")) or (path / "obj_train_data").is_dir()
    return (path / "labels").is_dir() or "labels" in path.parts or (has_texts and not any(path.glob("*.xml")))


def images_of(image_folder: Path, label_folder: Path, hints: Hints) -> ImageIndex:
    """Return the images that the label files belong to: those of the data set, else those that are given beside it.

    Raises:
        DataError: there are none.
    """
    if label_folder == image_folder:
        _refuse_splits(label_folder)
    own = index_of_folder(image_folder)
    if own.names:
        return own
    if hints.images is not None and hints.images.names:
        return hints.images
    msg = f"{image_folder}: expected the images that the labels belong to, found none; give their folder with --images"
    raise DataError(msg)


def _refuse_splits(folder: Path) -> None:
    """Raise DataError where a folder holds splits with labels of their own."""
    children = sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    splits = [child for child in children if (child / "labels").is_dir()]
    if splits:
        names = ", ".join(split.name for split in splits)
        raise DataError(f"{folder}: holds the splits {names}; give one of them, as {splits[0]}")


def label_files(folder: Path, images: Iterable[str], notes: Notes) -> list[str]:
    """Return the names of all label files of a folder, without hidden ones and texts that are something else.

    A text such as `classes.txt` or `README.txt` is a label file only where an image has its stem.
    """
    stems = {Path(name).with_suffix("").as_posix() for name in images}
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.txt") if file.is_file())
    kept: list[str] = []
    for name in names:
        if is_hidden(name):
            notes.add("a hidden file or folder; left out", str(folder / name))
        elif Path(name).with_suffix("").as_posix() in stems or not _is_list(name):
            kept.append(name)
    return kept


def _is_list(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last in NO_LABELS or last.lower().startswith("readme")


def class_names(path: Path, label_folder: Path, hints: Hints, notes: Notes) -> Names:
    """Return the names of the classes, as they are written.

    They stand in `data.yaml`, another YAML file with `names`, `classes.txt`, or `obj.names`: in the folder of the
    labels, in the data set's folder, or in the nearest of three folders above. The classes that are given beside the
    annotations serve where there is no such file.

    Raises:
        DataError: no names, files that disagree, or a file that cannot be used.
    """
    folder = path.parent if path.suffix in YAML else path
    own = [path] if path.suffix in YAML else [file for place in (folder, label_folder) for file in names_files(place)]
    files = own or next((found for parent in folder.parents[:3] if (found := names_files(parent))), [])
    named = [names for file in dict.fromkeys(files) if (names := _names_in(file, notes)) is not None]
    for other in named[1:]:
        if other.classes != named[0].classes:
            msg = f"{named[0].file} and {other.file} name different classes; remove the wrong one"
            raise DataError(msg)
    if named:
        return max(named, key=lambda names: names.keypoint_numbers)
    if hints.classes:
        return Names(hints.classes, 0, None)
    msg = f"{folder}: expected data.yaml with 'names', classes.txt or obj.names; a YOLO folder needs the class names"
    raise DataError(msg)


def names_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may name classes."""
    if not folder.is_dir():
        return []
    known = [folder / name for name in ("data.yaml", "dataset.yaml", *LISTS)]
    others = sorted(file for file in folder.iterdir() if file.suffix in YAML and file not in known)
    return [file for file in (*known, *others) if file.is_file() and not is_hidden(file.name)]


def _names_in(file: Path, notes: Notes) -> Names | None:
    """Return what a file says about the classes; None for a YAML file of another kind."""
    if file.suffix in YAML:
        return _yaml_names(file, notes)
    lines = [line.rstrip() for line in text_lines(file)]
    while lines and not lines[-1]:
        lines.pop()
    if not all(lines):
        number = lines.index("") + 1
        raise DataError(
            f"{file}: line {number} is blank, so the classes after it have other numbers; remove or name it"
        )
    return Names(_stripped(lines, file, notes), 0, file)


def _yaml_names(file: Path, notes: Notes) -> Names | None:
    """Read a YAML file whose scalars stay texts: `no`, `on` and `010` are names, not false, true and 8."""
    try:
        tree: Any = yaml.load(file.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)  # noqa: S506  texts alone
        if "names" not in tree and file.name not in ("data.yaml", "dataset.yaml"):
            return None
        names = tree["names"]
        listed = names if isinstance(names, list) else [names[str(number)] for number in range(len(names))]
        keypoints, per_keypoint = (int(number) for number in tree.get("kpt_shape", ("0", "0")))
        if not all(isinstance(name, str) for name in listed):
            raise TypeError(listed)
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        msg = f"{file}: expected a key 'names' with one name per class, numbered from 0 ({error!r})"
        raise DataError(msg) from error
    if str(tree.get("nc", len(listed))) != str(len(listed)):
        notes.add(f"nc is {tree['nc']}, but there are {len(listed)} names; the names rule", str(file))
    return Names(_stripped(listed, file, notes), keypoints * per_keypoint, file)


def _stripped(names: Sequence[str], file: Path, notes: Notes) -> tuple[str, ...]:
    for name in names:
        if name != name.strip():
            notes.add("blanks around the name of a class were removed", f"{file}: {name!r}")
    return tuple(name.strip() for name in names)
