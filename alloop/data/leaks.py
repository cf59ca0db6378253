"""Leaks between two data sets, and duplicates inside one: images that are the same, or look nearly the same.

An image that is in the pool and in the test split makes AP measure what was memorized. Identical bytes are found
by sha256, and images that look alike by the Hamming distance of their perceptual hashes. Image ids and file names that
two files have in common are listed too, but they are no leak: many tools number the images of each file from 1.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float

from alloop.data.fingerprints import Fingerprint, hashes_of
from alloop.data.hamming import near_groups, nearest
from alloop.values import ImageId, ImageRecord

NEAR: Final = 8  # bits of 64; docs/duplicates.md has the measurement
SHOWN = 10  # pairs that are printed of each kind

Kind = Literal["identical", "near-identical", "similar embedding", "same group", "same image id", "same file name"]
_TITLE: dict[Kind, str] = {
    "identical": "images with the same bytes",
    "near-identical": "images that look alike",
    "similar embedding": "images with similar embeddings",
    "same group": "images of a group that is in both",
    "same image id": "image ids in both; by themselves no leak",
    "same file name": "file names in both; by themselves no leak",
}
_LEAKS = frozenset[Kind]({"identical", "near-identical", "similar embedding", "same group"})


@dataclass(frozen=True)
class Side:
    """One of two data sets that are compared.

    Attributes:
        name: what messages call it.
        images: its images.
        fingerprints: those of its images.
        embeddings: one vector for each image that can be read, where a detector gave them.
        groups: the group of each image that has one.
    """

    name: str
    images: Mapping[ImageId, ImageRecord]
    fingerprints: Mapping[ImageId, Fingerprint] = field(default_factory=dict)
    embeddings: Mapping[ImageId, Float[np.ndarray, " d"]] | None = None
    groups: Mapping[ImageId, str] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return why images could not be compared, one sentence each."""
        return [one.problem for one in self.fingerprints.values() if one.problem]


@dataclass(frozen=True, slots=True)
class Match:
    """An image of the first data set and its counterpart in the second.

    Attributes:
        first: an image of the first data set.
        second: the nearest image of the second one.
        distance: bits for near-identical images, a cosine distance for embeddings, else 0.
    """

    first: ImageId
    second: ImageId
    distance: float = 0.0


@dataclass(frozen=True, slots=True)
class Overlap:
    """Everything of one kind that two data sets have in common; each image of the first one appears at most once."""

    kind: Kind
    matches: tuple[Match, ...]

    @property
    def is_leak(self) -> bool:
        """Whether such images make a measurement untrustworthy."""
        return self.kind in _LEAKS


def overlaps(first: Side, second: Side, radius: int = NEAR, cosine: float = 0.0) -> list[Overlap]:
    """Return what two data sets have in common, the kinds in a fixed order, empty ones included.

    Args:
        first: a data set.
        second: another one.
        radius: perceptual hashes within this Hamming distance count as near-identical.
        cosine: embeddings within this cosine distance count as similar; asked only where both sides have some.
    """
    same = _identical(first, second)
    identical = {match.first for match in same}
    found = [
        Overlap("identical", tuple(same)),
        Overlap("near-identical", tuple(m for m in _near(first, second, radius) if m.first not in identical)),
    ]
    if first.embeddings is not None and second.embeddings is not None:
        found.append(Overlap("similar embedding", tuple(_similar(first, second, cosine))))
    if first.groups and second.groups:
        found.append(Overlap("same group", tuple(_matched(first.groups, second.groups))))
    ids = tuple(Match(image_id, image_id) for image_id in first.images if image_id in second.images)
    names = (
        {image_id: record.file_name.rpartition("/")[2] for image_id, record in side.images.items()}
        for side in (first, second)
    )
    return [*found, Overlap("same image id", ids), Overlap("same file name", tuple(_matched(*names)))]


def leaked(found: Iterable[Overlap]) -> set[ImageId]:
    """Return the images of the first data set that leak."""
    return {match.first for overlap in found if overlap.is_leak for match in overlap.matches}


def duplicate_groups(found: Mapping[ImageId, Fingerprint], radius: int = NEAR) -> list[list[ImageId]]:
    """Return the groups of images inside one data set that look alike, the largest first.

    A chain of images each of which looks like the next is one group.
    """
    image_ids, hashes = hashes_of(found)
    groups: dict[int, list[ImageId]] = {}
    for image_id, group in zip(image_ids, near_groups(hashes, radius).tolist(), strict=True):
        groups.setdefault(group, []).append(image_id)
    return sorted((group for group in groups.values() if len(group) > 1), key=lambda group: (-len(group), group[0]))


def _identical(first: Side, second: Side) -> list[Match]:
    hashes = ({i: one.sha256 for i, one in side.fingerprints.items() if one.sha256} for side in (first, second))
    return _matched(*hashes)


def _matched(first: Mapping[ImageId, str], second: Mapping[ImageId, str]) -> list[Match]:
    """Match the images whose texts are equal; the counterpart is the first one."""
    owners: dict[str, ImageId] = {}
    for image_id, text in second.items():
        owners.setdefault(text, image_id)
    return [Match(image_id, owners[text]) for image_id, text in first.items() if text in owners]


def _near(first: Side, second: Side, radius: int) -> list[Match]:
    ids, hashes = hashes_of(first.fingerprints)
    other_ids, other_hashes = hashes_of(second.fingerprints)
    rows, distances = nearest(hashes, other_hashes, radius)
    found = zip(ids, rows.tolist(), distances.tolist(), strict=True)
    return [Match(image_id, other_ids[row], float(distance)) for image_id, row, distance in found if row >= 0]


def _similar(first: Side, second: Side, cosine: float) -> list[Match]:
    if not first.embeddings or not second.embeddings:
        return []
    ids, other_ids = list(first.embeddings), list(second.embeddings)
    own, others = (np.stack(list(side.values())) for side in (first.embeddings, second.embeddings))
    rows, distances = nearest_embeddings(own, others)
    found = zip(ids, rows.tolist(), distances.tolist(), strict=True)
    return [Match(image_id, other_ids[row], distance) for image_id, row, distance in found if distance <= cosine]


def nearest_embeddings(
    queries: Float[np.ndarray, "m d"], embeddings: Float[np.ndarray, "n d"]
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each query, the row of the nearest embedding by cosine distance, and that distance."""
    unit, others = unit_vectors(queries), unit_vectors(embeddings)
    rows, distances = np.zeros(len(unit), dtype=np.int64), np.ones(len(unit))
    for begin in range(0, len(unit) if len(others) else 0, 1024):
        cosines = unit[begin : begin + 1024] @ others.T
        rows[begin : begin + 1024] = cosines.argmax(axis=1)
        distances[begin : begin + 1024] = 1 - cosines.max(axis=1)
    return rows, distances


def unit_vectors(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Return vectors of length 1; one of zeros stays as it is, at the cosine distance 1 of every other."""
    vectors = vectors.astype(np.float64)
    lengths: np.ndarray = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.where(lengths > 0, lengths, 1)
    return unit


def overlap_lines(first: Side, second: Side, found: Sequence[Overlap], radius: int, cosine: float = 0.0) -> list[str]:
    """Return what two data sets have in common in words: a count of each kind, and the first pairs that leak."""
    limits: dict[Kind, str] = {
        "near-identical": f" (at most {radius} of 64 bits differ)",
        "similar embedding": f" (cosine distance at most {cosine:g})",
    }
    lines = [f"{first.name} ({len(first.images)} images) against {second.name} ({len(second.images)} images)"]
    for overlap in found:
        title = f"{_TITLE[overlap.kind]}{limits.get(overlap.kind, '')}"
        lines.append(f"  {len(overlap.matches):>5} {title}")
        if overlap.is_leak:
            lines += [f"          {_pair(first, second, overlap.kind, match)}" for match in overlap.matches[:SHOWN]]
            more = len(overlap.matches) - SHOWN
            lines += [f"          and {more} more"] if more > 0 else []
    for side in (first, second):
        if problems := side.problems():
            lines.append(
                f"  {len(problems):>5} images of {side.name} cannot be read and were not compared: {problems[0]}"
            )
    return lines


def _pair(first: Side, second: Side, kind: Kind, match: Match) -> str:
    sides = ((first, match.first), (second, match.second))
    names = [f"{side.images[image_id].file_name} (image {image_id})" for side, image_id in sides]
    distance: dict[Kind, str] = {
        "near-identical": f", {match.distance:g} bits",
        "similar embedding": f", cosine distance {match.distance:.3g}",
        "same group": f", group {first.groups.get(match.first)}",
    }
    return f"{' and '.join(names)}{distance.get(kind, '')}"


def duplicate_lines(
    images: Mapping[ImageId, ImageRecord], groups: Sequence[Sequence[ImageId]], radius: int
) -> list[str]:
    """Return the groups of images that look alike in words, the largest first."""
    extra = sum(len(group) - 1 for group in groups)
    where = f"{sum(map(len, groups))} images in {len(groups)} groups, {extra} more than one of each"
    lines = [f"duplicates (at most {radius} of 64 bits differ): {where}"]
    for group in groups[:SHOWN]:
        names = [f"{images[image_id].file_name} (image {image_id})" for image_id in group[:3]]
        more = f" and {len(group) - 3} more" if len(group) > 3 else ""
        lines.append(f"  {len(group)} images: {', '.join(names)}{more}")
    return [*lines, *([f"  and {len(groups) - SHOWN} more groups"] if len(groups) > SHOWN else [])]


def overlap_json(second: Side, found: Sequence[Overlap], radius: int, cosine: float | None = None) -> dict[str, Any]:
    """Return what two data sets have in common for JSON: every pair of every kind."""
    return {
        "against": second.name,
        "images": len(second.images),
        "distance": radius,
        "cosine": cosine,
        "leaks": len(leaked(found)),
        "counts": Counter({overlap.kind: len(overlap.matches) for overlap in found}),
        "pairs": [
            {"kind": o.kind, "image_id": int(m.first), "other_image_id": int(m.second), "distance": m.distance}
            for o in found
            for m in o.matches
        ],
        "unreadable": second.problems(),
    }
