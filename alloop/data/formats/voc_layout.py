"""Where the files of a Pascal VOC data set lie, and which image a file belongs to.

A file names its image in `<filename>`, and its own name usually says the same. People rename files, and tools write
`<filename>` without a suffix or of another folder. Where both names mean different images that exist, nobody can know
which one was annotated, and the file is refused.
"""

from collections.abc import Sequence
from pathlib import Path

from alloop.data.image_index import ImageIndex, is_hidden
from alloop.data.images import SUFFIXES
from alloop.data.notes import Notes
from alloop.errors import DataError

FLAGS = ("-1", "0", "1")  # the second column of a list: absent, difficult, present


def voc_root(path: Path) -> tuple[Path, list[str] | None]:
    """Return the folder of a VOC data set, and the stems that a list of `ImageSets` names.

    Raises:
        DataError: a list that cannot be read.
    """
    if path.suffix != ".txt":
        return path, None
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: expected a list of image names, but it cannot be read ({error})"
        raise DataError(msg) from error
    if len(path.parents) < 3:
        msg = f"{path}: expected a list such as ImageSets/Main/train.txt, two folders below the data set"
        raise DataError(msg)
    root = path.parents[2]
    return root, _listed(path, lines, voc_source(root))


def voc_source(root: Path) -> Path:
    """Return the folder of the XML files."""
    return root / "Annotations" if (root / "Annotations").is_dir() else root


def voc_files(source: Path, notes: Notes) -> list[Path]:
    """Return the XML files of a folder, sorted, without hidden ones."""
    files = sorted(source.rglob("*.xml"))
    hidden = [file for file in files if is_hidden(file.relative_to(source).as_posix())]
    notes.add("a hidden file or folder; left out", str(hidden[0]) if hidden else "", len(hidden))
    return [file for file in files if file not in hidden]


def _listed(path: Path, lines: Sequence[str], source: Path) -> list[str]:
    """Return the stems of a list: one name a line, which may hold blanks, or a name and a flag.

    It is a list of names and flags where every line ends with a flag, unless only the whole lines are names of files.
    """
    pairs = [line.rsplit(None, 1) for line in lines]
    has_flags = all(len(pair) == 2 and pair[1] in FLAGS for pair in pairs)
    names_are_whole = not any(_stem(pair[0], source) for pair in pairs) and any(_stem(line, source) for line in lines)
    if has_flags and not names_are_whole:
        lines = [name for name, flag in pairs if flag != "-1"]
    stems = [_stem(line, source) for line in lines]
    for line, stem in zip(lines, stems, strict=True):
        if stem is None:
            msg = f"{path}: expected one image name per line, but {source} has no file {line}.xml"
            raise DataError(msg)
    return [stem for stem in stems if stem is not None]


def _stem(name: str, source: Path) -> str | None:
    """Return the stem of the XML file that a line of a list names, which may have folders or a suffix."""
    for text in (name, name.replace("\\", "/").rpartition("/")[2]):
        bare = Path(text).with_suffix("").as_posix() if Path(text).suffix.lower() in (*SUFFIXES, ".xml") else text
        for stem in (text, bare):
            if "\0" not in stem and (source / f"{stem}.xml").is_file():
                return stem
    return None


def image_name(written: str, file: Path, source: Path, images: ImageIndex, notes: Notes) -> str:
    """Return the name of the image that an XML file belongs to.

    Args:
        written: what `<filename>` says, empty where there is none.
        file: the XML file.
        source: the folder of all XML files.
        images: the images that exist.
        notes: grows where the two names differ.

    Raises:
        DataError: the two names mean two images, or neither name is there.
    """
    stem = file.relative_to(source).with_suffix("").as_posix()
    last = written.replace("\\", "/").rpartition("/")[2]
    if not written:
        found = images.find(stem)
        if found is None:
            raise DataError(f"{file}: key <filename> is missing or empty, and no image has the name of this file")
        notes.add("<filename> is missing; the image with the name of the XML file is taken", str(file))
        return found.name
    beside = f"{stem.rpartition('/')[0]}/{last}".removeprefix("/")
    if Path(last).stem == Path(stem).name or last == Path(stem).name:
        exact = images.find(beside)
        if exact is not None and exact.name == beside:
            return beside
        return written
    return _of_two_names(written, stem, file, images, notes)


def _of_two_names(written: str, stem: str, file: Path, images: ImageIndex, notes: Notes) -> str:
    by_filename, by_stem = images.find(written), images.find(stem)
    if by_filename is not None and by_stem is not None and by_filename.name != by_stem.name:
        msg = (
            f"{file}: <filename> is {written!r}, but the image {by_stem.name!r} has the name of this file; both images "
            "exist, so one of the names is wrong; mend it"
        )
        raise DataError(msg)
    if by_stem is not None and by_filename is None:
        rule = "<filename> names no image; the one with the name of the XML file is taken"
        notes.add(rule, f"{file}: {written!r} is {by_stem.name!r}")
        return by_stem.name
    notes.add("<filename> differs from the name of the XML file; <filename> is taken", f"{file}: {written!r}")
    return written
