"""What was read leniently: each rule that was applied, how often, and where first."""

import msgspec


class Note(msgspec.Struct, frozen=True):
    """A rule that a reader applied. `first` is where it was applied first: a file, a key and an id."""

    rule: str
    count: int
    first: str

    def __str__(self) -> str:
        """Return one line."""
        times = "" if self.count == 1 else f" ({self.count} times)"
        return f"{self.first}: {self.rule}{times}"


class Notes:
    """Notes that grow while a file is read; the same rule is counted, not repeated."""

    def __init__(self) -> None:
        """Start without a note."""
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, rule: str, where: str, count: int = 1) -> None:
        """Count `count` applications of a rule, the first of them at `where`; 0 adds nothing."""
        if count:
            self._counts[rule] = self._counts.get(rule, 0) + count
            self._first.setdefault(rule, where)

    def listed(self) -> tuple[Note, ...]:
        """Return the notes in the order of their first application."""
        return tuple(Note(rule, count, self._first[rule]) for rule, count in self._counts.items())
