"""Class ids for formats that know classes by name alone."""

from collections.abc import Sequence

from alloop.data.records import Category


class ClassIds:
    """Ids of class names: those of known categories, and the next free number for a name that is new."""

    def __init__(self, known: Sequence[Category], first: int) -> None:
        """Start from the known categories; `first` is the first id where there are none."""
        self.categories = list(known)
        self._first = first
        self._ids = {category.name: category.id for category in known}

    def id_of(self, name: str) -> int:
        """Return the id of a name, which becomes a category if it is new."""
        if name not in self._ids:
            self._ids[name] = max(self._ids.values(), default=self._first - 1) + 1
            self.categories.append(Category(self._ids[name], name))
        return self._ids[name]
