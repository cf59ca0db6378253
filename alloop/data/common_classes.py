"""One list of classes for all splits. Its order never depends on which annotation came first.

- `data.classes` gives the list, where the config has this key.
- Else the first split decides whose file declares its classes, in the order train, reference, test.
- Else, where no format declares classes (VOC lists none), it is every class that occurs in any split, sorted by name.

Then each split gets this list. A class that a split lacks is one without a box there. A class that is not on the list
is left out where no box has it, and refused where one has.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from alloop.config.blocks import DataConfig
from alloop.data.reading import with_classes
from alloop.data.records import Records
from alloop.errors import ConfigError


def class_names_of(config: DataConfig) -> tuple[str, ...]:
    """Return the names that `data.classes` gives, a list or a file with one name a line; empty without the key.

    Raises:
        ConfigError: the file cannot be read, or a name is blank or stands twice.
    """
    if config.classes is None:
        return ()
    names = _lines(config.classes) if isinstance(config.classes, Path) else config.classes
    for number, name in enumerate(names):
        if not name.strip() or name in names[:number]:
            found = "is blank" if not name.strip() else "stands twice"
            msg = f"data.classes: name {number + 1}, {name!r}, {found}; give each class one name"
            raise ConfigError(msg)
    if not names:
        msg = "data.classes: names no class; give the names in label order, or remove the key"
        raise ConfigError(msg)
    return tuple(names)


def with_common_classes(splits: Mapping[str, Records], names: Sequence[str] = ()) -> dict[str, Records]:
    """Return splits that all have the same classes in the same order.

    Args:
        splits: the records by the key of their split, in the order train, reference, test.
        names: the classes that the config gives, in label order; empty to find them by the rules above.

    Raises:
        DataError: a box has a class that is not on the list.
    """
    common = list(names) or _common_names(list(splits.values()))
    return {key: with_classes(records, common, key) for key, records in splits.items()}


def _common_names(splits: Sequence[Records]) -> list[str]:
    declared = next((records for records in splits if not records.classes_are_seen), None)
    if declared is not None:
        return [category.name for category in declared.categories]
    return sorted({category.name for records in splits for category in records.categories})


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"data.classes: {path} cannot be read ({error}); write one name a line"
        raise ConfigError(msg) from error
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.strip() for line in lines]
