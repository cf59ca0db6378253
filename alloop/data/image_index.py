"""Images found by the names that annotations give them. A name finds one image, or none, or is refused as ambiguous.

A name is compared part by part. These rules are tried in this order, and the first that finds something decides:

1. The name as it is written.
2. The same name in another Unicode form (NFC, NFD), with backslashes, or with `./` before it.
3. One path ends with the other: `b.jpg` finds `day/b.jpg`, and `/home/ann/day/b.jpg` finds it, too, if no other
   image ends like that. `x/1.jpg` never finds `y/1.jpg`.
4. The same, with other upper and lower case.
5. The same for a name without a suffix: `b` finds `b.jpg`.
"""

import difflib
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from alloop.data.images import SUFFIXES, image_size
from alloop.data.notes import Note, Notes
from alloop.errors import DataError
from alloop.values import ImageRecord

HIDDEN = frozenset({"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN"})  # folders that systems keep copies in
LISTED = 3  # candidates that an error names
ALIKE = 0.85  # least share of characters that two names have in common for one to be a misspelling of the other
COMPARED = 2000  # names that a misspelled one is compared with
_FORM = "its Unicode form or its slashes differ"
_PLACE = "its folders differ"
_CASE = "its upper and lower case differ"
_SUFFIX = "it has no suffix"


@dataclass(frozen=True, slots=True)
class Found:
    """The image that a name means: its own name, and the difference that was ignored, empty where there is none."""

    name: str
    difference: str = ""


class ImageIndex:
    """Images by name. `place` is how messages call them; `size_of(name)` is (width, height) in pixels as displayed."""

    def __init__(
        self,
        names: Callable[[], Iterable[str]],
        size_of: Callable[[str], tuple[int, int]],
        place: str,
        has: Callable[[str], bool] | None = None,
    ) -> None:
        """Remember where names come from; they are listed when the first name is not found as it is written.

        Args:
            names: lists the names of all images, relative and with `/` between parts.
            size_of: the size of the image of a name.
            place: how messages call the images: a folder, or a file of annotations.
            has: whether there is an image of exactly this name; by default whether it is among `names`.
        """
        self._list, self.size_of, self.place = names, size_of, place
        self._has = has or (lambda name: name in self._known)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all images, sorted."""
        return tuple(sorted(self._list()))

    def find(self, name: str) -> Found | None:
        """Return the image that a name means; None where there is none.

        Raises:
            DataError: several images could be meant; they are named.
        """
        if self._has(name):
            return Found(name)
        return next((found for rule in self._rules if (found := self._by(rule, name))), None)

    def near(self, name: str) -> str:
        """Return ` (did you mean ...?)` for a name that finds nothing; empty where no name is like it."""
        last = PurePosixPath(_plain(name))
        same_stem = next((other for other in self.names if PurePosixPath(other).stem == last.stem), None)
        close = [same_stem] if same_stem else difflib.get_close_matches(last.name, self.names[:COMPARED], 1, ALIKE)
        return f" (did you mean {close[0]!r}?)" if close else ""

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names)

    @cached_property
    def _rules(self) -> tuple["_Rule", ...]:
        return (
            _Rule(self.names, of_file=str, of_name=str, difference=""),
            _Rule(self.names, of_file=str.casefold, of_name=str.casefold, difference=_CASE),
            _Rule(self.names, of_file=_without_suffix, of_name=_if_without_suffix, difference=_SUFFIX),
        )

    def _by(self, rule: "_Rule", name: str) -> Found | None:
        wanted = _plain(name)
        candidates = rule.candidates(wanted)
        if len(candidates) > 1:
            listed = ", ".join(repr(candidate) for candidate in candidates[:LISTED])
            msg = f"{self.place}: {name!r} may mean {listed}; give the annotations the whole name, with its folders"
            raise DataError(msg)
        return Found(candidates[0], rule.difference(candidates[0], wanted)) if candidates else None


class _Rule:
    """One way to compare paths: they have the same key, or the key of one ends with that of the other."""

    def __init__(
        self, names: Sequence[str], of_file: Callable[[str], str], of_name: Callable[[str], str], difference: str
    ) -> None:
        self._of_file, self._of_name, self._difference = of_file, of_name, difference
        self._by_last: dict[str, list[tuple[str, str]]] = {}
        for name in names:
            key = of_file(_plain(name))
            self._by_last.setdefault(_last(key), []).append((key, name))

    def candidates(self, wanted: str) -> list[str]:
        """Return the images that a name may mean; more than one is ambiguous."""
        path = self._of_name(wanted)
        rows = self._by_last.get(_last(path), [])
        equal = [name for key, name in rows if key == path]
        longer = [name for key, name in rows if key.endswith(f"/{path}")]
        if equal or longer:
            return equal or longer
        shorter = max((key for key, _ in rows if path.endswith(f"/{key}")), key=len, default=None)
        # the shorter path must be the only one that ends so, else the folders are what tells images apart
        return [name for key, name in rows if shorter is not None and f"/{key}".endswith(f"/{shorter}")]

    def difference(self, found: str, wanted: str) -> str:
        """Return which difference between the two names was ignored."""
        if not self._difference:
            return _FORM if _plain(found) == wanted else _PLACE
        same_place = self._of_file(_plain(found)) == self._of_name(wanted)
        return self._difference if same_place else f"{self._difference} and {_PLACE}"


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _plain(name: str) -> str:
    """Return a name in Unicode's composed form, with `/` between its parts and without `./` before them."""
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return "/".join(part for number, part in enumerate(parts) if part != "." and (part or number == 0))


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in SUFFIXES else name


def _if_without_suffix(name: str) -> str:
    """Return a name that has no suffix, and for any other a name that no file has."""
    return name if _without_suffix(name) == name else "/"


def index_of_folder(folder: Path) -> ImageIndex:
    """Return the visible images of a folder, searched in depth; the folder is walked only where it has to be."""

    def has(name: str) -> bool:
        inside = "\0" not in name and "\\" not in name and not name.startswith("/") and ".." not in name.split("/")
        return inside and bool(name) and "" not in name.split("/") and "." not in name.split("/") and is_file(name)

    def is_file(name: str) -> bool:
        try:
            return (folder / name).is_file()
        except OSError:  # a name that is too long
            return False

    return ImageIndex(lambda: visible_images(folder), lambda name: image_size(folder / name), str(folder), has)


def index_of_records(images: Iterable[ImageRecord], place: str) -> ImageIndex:
    """Return the images of a data set by their file names; `place` is how messages call it."""
    sizes = {image.file_name: (image.width, image.height) for image in images}
    return ImageIndex(lambda: sizes, lambda name: sizes[name], place)


def visible_images(folder: Path) -> list[str]:
    """Return the names of the image files in a folder, searched in depth and sorted, without hidden ones."""
    return sorted(name for name in _image_files(folder) if not is_hidden(name))


def hidden_images(folder: Path) -> list[str]:
    """Return the names of the image files that `visible_images` leaves out, sorted."""
    return sorted(name for name in _image_files(folder) if is_hidden(name))


def is_hidden(name: str) -> bool:
    """Return whether a system or a tool made this file for itself: a part begins with a dot, or is in `HIDDEN`."""
    return any(part in HIDDEN or part.startswith(".") for part in name.split("/"))


def _image_files(folder: Path) -> Iterator[str]:
    for parent, _, files in os.walk(folder):
        for file in files:
            if PurePosixPath(file).suffix.lower() in SUFFIXES:
                yield Path(parent, file).relative_to(folder).as_posix()


@dataclass(frozen=True, slots=True)
class Matches:
    """The image of each name, the names that belong to no image, and the differences that were ignored."""

    by_name: Mapping[str, ImageRecord]
    unknown: tuple[str, ...]
    notes: tuple[Note, ...]


def match_names(names: Iterable[str], images: Iterable[ImageRecord], place: str) -> Matches:
    """Return the image of each name.

    Args:
        names: as people's tools wrote them. A missing suffix is not noted, because some formats drop it.
        images: those that may be meant.
        place: how messages call the names: the file or folder that holds them.

    Raises:
        DataError: a name may mean several images, or two names mean one.
    """
    by_file = {image.file_name: image for image in images}
    index, notes = index_of_records(by_file.values(), place), Notes()
    matches: dict[str, ImageRecord] = {}
    unknown: list[str] = []
    named: dict[str, str] = {}
    for name in names:
        found = index.find(name)
        if found is None:
            unknown.append(name)
            continue
        if found.name in named and named[found.name] != name:
            msg = f"{place}: {named[found.name]!r} and {name!r} both mean {found.name}; keep one of them"
            raise DataError(msg)
        if found.difference not in ("", _SUFFIX):
            notes.add(f"belongs to an image although {found.difference}", f"{place}: {name!r} is {found.name!r}")
        named[found.name], matches[name] = name, by_file[found.name]
    return Matches(matches, tuple(unknown), notes.listed())
