"""The check of the images when a run begins: a hash of each file, and images that two splits share.

It is made once, and its result is recorded. An image of the test split that is also in the pool, or looks like one
there, makes AP measure what was memorized.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from alloop.data.cache_folder import CacheFolder
from alloop.data.fingerprints import Fingerprint
from alloop.data.kept_fingerprints import fingerprints
from alloop.data.leaks import NEAR, Match, Side, overlaps
from alloop.data.perceptual_hash import SIDE
from alloop.data.splits import Split
from alloop.errors import DataError
from alloop.ledger.facts import SplitLeaks
from alloop.ledger.image_audit import TITLES
from alloop.ledger.split_images import HashedImage
from alloop.progress import Progress
from alloop.values import ImageId, ImageRecord

_COMPARED = (("test", "train"), ("reference", "train"), ("reference", "test"))
_HARM = {
    ("test", "train"): "AP is measured on what is trained on",
    ("reference", "train"): "the strategy looks at what is trained on",
    ("reference", "test"): "the strategy looks at what AP is measured on",
}
SHOWN = 5  # pairs of each kind that are recorded

Fingerprints = Mapping[ImageId, Fingerprint]


@dataclass(frozen=True)
class CheckedImages:
    """The images of every split when a run begins.

    Attributes:
        hashed: id, file name and sha256 of each image, by split.
        perceptual: the perceptual hash of each image of the pool that can be decoded and is large enough for it.
        leaks: what the splits share.
    """

    hashed: Mapping[str, list[HashedImage]]
    perceptual: Mapping[ImageId, int]
    leaks: tuple[SplitLeaks, ...]


def checked_images(splits: Mapping[str, Split], progress: Progress, kept: CacheFolder | None = None) -> CheckedImages:
    """Read every image once and compare the splits.

    Args:
        splits: by name; `train` is the pool.
        progress: where to report progress.
        kept: where fingerprints of earlier starts are found.

    Raises:
        DataError: an image file that cannot be read.
    """
    found = {
        name: fingerprints(split.images, sorted(split.dataset.images), TITLES[name], progress, kept=kept)
        for name, split in splits.items()
    }
    hashed = {name: _hashed(split, found[name]) for name, split in splits.items()}
    records = splits["train"].dataset.images
    pool = {
        image_id: one.perceptual
        for image_id, one in found["train"].items()
        if one.perceptual is not None and _is_told_apart(records[image_id])
    }
    sides = {name: Side(name, split.dataset.images, found[name]) for name, split in splits.items()}
    compared = [(name, of) for name, of in _COMPARED if name in sides and of in sides]
    return CheckedImages(hashed, pool, tuple(_leaks(sides[name], sides[of]) for name, of in compared))


def _hashed(split: Split, found: Fingerprints) -> list[HashedImage]:
    rows = []
    for image_id, one in found.items():
        if one.sha256 is None:
            raise DataError(one.problem)
        rows.append((image_id, split.dataset.images[image_id].file_name, one.sha256))
    return rows


def _leaks(side: Side, of: Side) -> SplitLeaks:
    identical, near = (overlap.matches for overlap in overlaps(side, of)[:2])
    near = tuple(match for match in near if _is_told_apart(side.images[match.first], of.images[match.second]))

    def names(match: Match) -> tuple[str, str]:
        return side.images[match.first].file_name, of.images[match.second].file_name

    return SplitLeaks(
        split=side.name,
        of=of.name,
        images=len(side.images),
        identical=len(identical),
        near=len(near),
        bits=NEAR,
        undecoded=len(side.problems()) + len(of.problems()),
        identical_pairs=tuple(map(names, identical[:SHOWN])),
        near_pairs=tuple((*names(match), int(match.distance)) for match in near[:SHOWN]),
    )


def _is_told_apart(*images: ImageRecord) -> bool:
    """Return whether images are large enough for their perceptual hashes to tell one motif from another."""
    return all(min(image.width, image.height) >= SIDE for image in images)


def leak_warnings(leaks: tuple[SplitLeaks, ...]) -> list[str]:
    """Return what a user should know about images that two splits share, one sentence each."""
    sentences = []
    for found in leaks:
        split, of, harm = found.split, TITLES[found.of], _HARM[found.split, found.of]
        if found.identical:
            sentences.append(f"{found.identical} of {found.images} {split} images are also in the {of}: {harm}")
        if found.near:
            first, second, _ = found.near_pairs[0]
            alike = f"{found.near} of {found.images} {split} images look like images of the {of}"
            sentences.append(f"{alike}, such as {first} and {second}: {harm}")
    return sentences
