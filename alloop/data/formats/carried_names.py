"""Names that a format cannot carry: they are refused before anything is written."""

import unicodedata
from collections.abc import Iterator

from alloop.data.records import Records
from alloop.errors import DataError


def refuse_lost_names(records: Records, kind: str) -> None:
    """Check the names of images and classes for what files of lines and XML cannot carry.

    Args:
        records: what is to be written.
        kind: the format, for messages.

    Raises:
        DataError: a name with a control character or half a character, or the name of a class with blanks around it.
    """
    for where, name in _names(records):
        lost = [character for character in name if unicodedata.category(character) in ("Cc", "Cs", "Cn")]
        if lost:
            msg = f"{where} {name!r} holds the character {lost[0]!r}, which {kind} cannot carry; rename it"
            raise DataError(msg)
    for category in records.categories:
        if category.name != category.name.strip():
            msg = f"class {category.id}: {kind} loses the blanks around {category.name!r}; rename it"
            raise DataError(msg)


def _names(records: Records) -> Iterator[tuple[str, str]]:
    yield from ((f"image {image.image_id}: file_name", image.file_name) for image in records.images)
    yield from ((f"class {category.id}: name", category.name) for category in records.categories)
