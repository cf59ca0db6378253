"""What a round trained on: its images with what was booked about them, and one hash of all of it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from alloop.errors import ConfigError
from alloop.ledger.database import NEVER
from alloop.ledger.image_sizes import Size, recorded_image_sizes
from alloop.ledger.store import Ledger
from alloop.values import ImageId


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """One image that was paid for: its name, the hash of its file, its boxes and the hash of its annotations."""

    image_id: ImageId
    file_name: str
    sha256: str
    boxes: int
    annotation_sha256: str


def labeled_images(ledger: Ledger, round_: int) -> list[LabeledImage]:
    """Return the images that were labeled when a round trained, by ascending id."""
    rows = ledger.database.read(
        "SELECT c.image_id, i.file_name, i.sha256, json_array_length(c.annotation, '$.labels'), c.annotation_sha256 "
        "FROM paid c JOIN image i ON i.image_id = c.image_id WHERE c.round <= ?1 AND ?1 < c.until ORDER BY c.image_id",
        round_,
    )
    return [LabeledImage(ImageId(row[0]), *row[1:]) for row in rows]


def content_sha256(classes: Sequence[str], images: Iterable[LabeledImage], sizes: Mapping[ImageId, Size]) -> str:
    """Return the sha256 of a labeled set: class names in order, and name, size and annotations of each image.

    Ids, rounds and prices have no part in it: two runs that paid for the same labels of the same images have one hash.
    """
    digest = hashlib.sha256(repr(tuple(classes)).encode())
    for image in sorted(images, key=lambda image: image.file_name):
        digest.update(f"{(image.file_name, *sizes[image.image_id])!r}{image.annotation_sha256}".encode())
    return digest.hexdigest()


def content_of_last_round(ledger: Ledger) -> tuple[int, str] | None:
    """Return the last finished round and the hash of what it trained on.

    None where no round is finished, or where an older version recorded no sizes or classes.
    """
    facts, rounds, sizes = ledger.facts(), finished_rounds(ledger), recorded_image_sizes(ledger)
    if not rounds or not sizes or facts is None or facts.classes is None:
        return None
    return rounds[-1], content_sha256(facts.classes, labeled_images(ledger, rounds[-1]), sizes)


def class_counts(ledger: Ledger) -> list[tuple[int, int, int]]:
    """Return (round, label, boxes) of all labels: what each round added, less what a correction in it replaced."""
    rows = ledger.database.read(
        "SELECT round, label, SUM(n) FROM ("
        "SELECT round, value AS label, 1 AS n FROM paid, json_each(annotation, '$.labels') UNION ALL "
        "SELECT until, value, -1 FROM paid, json_each(annotation, '$.labels') WHERE until < ?"
        ") GROUP BY round, label ORDER BY round, label",
        NEVER,
    )
    return [tuple(row) for row in rows]


def finished_rounds(ledger: Ledger) -> list[int]:
    """Return the numbers of the finished rounds, ascending."""
    return [
        row["round"] for row in ledger.database.read("SELECT round FROM round WHERE metrics IS NOT NULL ORDER BY 1")
    ]


def labeled_round(ledger: Ledger, round_: int | None) -> int:
    """Return the round whose labels are meant: the one that is named, else the last finished one.

    Raises:
        ConfigError: nothing was labeled for this round yet, or no round is finished and none is named.
    """
    begun = [row["round"] for row in ledger.database.read("SELECT round FROM round ORDER BY round")]
    finished = finished_rounds(ledger)
    if not begun:
        msg = f"{ledger.folder}: nothing is labeled yet, so there is nothing to export; go on with `alloop run`"
        raise ConfigError(msg)
    if round_ is None and not finished:
        msg = f"{ledger.folder}: no round is finished yet; give --round 0 for the seed set, on which round 0 trains"
        raise ConfigError(msg)
    if round_ is not None and round_ not in begun:
        listed = f"0 to {begun[-1]}" if begun[-1] else "0"
        msg = f"--round: {ledger.folder} has labels for the rounds {listed}, found {round_}"
        raise ConfigError(msg)
    return finished[-1] if round_ is None else round_
