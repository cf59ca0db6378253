"""The check for leaks: read data sets with the fingerprints of their images, compare them, and say what was found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alloop.config.blocks import GroupsConfig
from alloop.data.formats.table import annotation_format, guess_format
from alloop.data.groups import with_groups
from alloop.data.image_index import index_of_folder
from alloop.data.images import FolderImages, ImageSource
from alloop.data.kept_fingerprints import fingerprints
from alloop.data.leaks import (
    NEAR,
    Side,
    duplicate_groups,
    duplicate_lines,
    leaked,
    overlap_json,
    overlap_lines,
    overlaps,
)
from alloop.data.reading import read_annotations, with_file_names
from alloop.errors import ConfigError
from alloop.progress import Progress
from alloop.values import ImageId

Embed = Callable[[ImageSource, Sequence[ImageId], str], np.ndarray]
"""Embeds images of a source; the text says what they are, for the progress."""


@dataclass(frozen=True, slots=True)
class LeakOptions:
    """How data sets are compared.

    Attributes:
        others: each as `OTHER` or `OTHER=IMAGES`.
        duplicates: whether to look for duplicates inside the data set.
        distance: the Hamming distance of near-identical images.
        cosine: the cosine distance of similar embeddings.
        format: the format of all annotations; guessed for each of them by default.
        embed: gives embeddings; None compares none.
        groups: how the group of an image is found; None compares no groups.
    """

    others: Sequence[str] = ()
    duplicates: bool = False
    distance: int = NEAR
    cosine: float = 0.05
    format: str | None = None
    embed: Embed | None = None
    groups: GroupsConfig | None = None


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What was found: lines to print, an object for JSON, and the number of images that leak."""

    lines: list[str]
    tree: dict[str, Any]
    leaks: int


def check_leaks(annotations: Path, images: Path | None, options: LeakOptions, progress: Progress) -> LeakReport:
    """Compare a data set with others, and with itself where duplicates are asked for.

    Args:
        annotations: file or folder of the data set.
        images: its image folder; the one that belongs to the annotations by default.
        options: see there. An `OTHER` without image folder takes `images` where that is given.
        progress: where to report progress.

    Raises:
        ConfigError: an image folder that is not there.
        DataError: annotations that cannot be read.
    """
    own = read_side(annotations, images, options, progress)
    lines: list[str] = []
    tree: dict[str, Any] = {"against": []}
    if options.duplicates:
        groups = duplicate_groups(own.fingerprints, options.distance)
        lines += duplicate_lines(own.images, groups, options.distance)
        tree["duplicates"] = [[int(image_id) for image_id in group] for group in groups]
    all_leaked: set[ImageId] = set()
    for text in options.others:
        path, folder = other_of(text)
        other = read_side(path, folder or images, options, progress)
        found = overlaps(own, other, options.distance, options.cosine)
        lines += overlap_lines(own, other, found, options.distance, options.cosine)
        cosine = options.cosine if options.embed else None
        tree["against"].append(overlap_json(other, found, options.distance, cosine))
        all_leaked |= leaked(found)
    tree["unreadable"] = own.problems()
    tree["leaks"] = len(all_leaked)
    return LeakReport(lines, tree, len(all_leaked))


def other_of(text: str) -> tuple[Path, Path | None]:
    """Split `OTHER=IMAGES`; a path that exists as it is written is taken whole."""
    path, equals, folder = text.rpartition("=")
    if not equals or Path(text).exists():
        return Path(text), None
    return Path(path), Path(folder)


def read_side(path: Path, images: Path | None, options: LeakOptions, progress: Progress) -> Side:
    """Read a data set with the fingerprints of its images, and what else is asked for."""
    format_ = annotation_format(options.format or guess_format(path), "--from")
    folder = images or format_.image_folder(path)
    if not folder.is_dir():
        msg = f"{folder}: expected the folder of the images of {path}; give it with --images, or as OTHER=IMAGES"
        raise ConfigError(msg)
    index = index_of_folder(folder)
    records = with_file_names(read_annotations(path, format_, index, groups=options.groups), index, str(path))
    records = with_groups(records, options.groups, str(path))
    by_id = {image.image_id: image for image in records.images}
    source = FolderImages(folder, by_id)
    found = fingerprints(source, list(by_id), path.name, progress)
    embeddings = None
    if options.embed is not None:
        readable = [image_id for image_id in by_id if not found[image_id].problem]
        embeddings = dict(zip(readable, options.embed(source, readable, path.name), strict=True)) if readable else {}
    return Side(str(path), by_id, found, embeddings, records.groups)
