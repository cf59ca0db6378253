"""AP of many resamples of the test images, without matching or sorting again.

A resample takes each image some number of times. Its AP is that of the data set in which the images are physically
repeated, copies of an image side by side: the detections are ranked once, and cumulative sums count each as often as
its image was taken. Repeating a detection adds points between those of the sums alone, and they change nothing: the
copies of a match only raise the precision, up to the last copy, and COCO's AP replaces a precision by the largest one
at any higher recall; the copies of a false detection leave the recall where it was.

Only detections of one class in one image with equal scores need more care. Two copies of the image give the order a, b,
a, b, not a, a, b, b. Where such detections differ in what they match, their rows are repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from alloop.evaluation.matching import IOU_THRESHOLDS, MatchedDetections

_RECALLS = np.linspace(0.0, 1.0, 101)  # the recalls at which COCO reads the precision
_CELLS = 1 << 18  # numbers that are held at once


@dataclass(frozen=True, slots=True, eq=False)
class _Ranking:
    """The detections of one class, best first.

    `copy` is 0 for a row that stands for all copies of its image, and c for one of the c-th copy alone.
    """

    images: Int64[np.ndarray, " n"]
    copy: Int64[np.ndarray, " n"]
    matched: Bool[np.ndarray, "t n"]
    ignored: Bool[np.ndarray, "t n"]

    def taken(self, rows: slice | np.ndarray) -> "_Ranking":
        return _Ranking(self.images[rows], self.copy[rows], self.matched[:, rows], self.ignored[:, rows])

    def weights(self, copies: Int64[np.ndarray, "r m"]) -> Int64[np.ndarray, "r n"]:
        """Return how often each row counts in each resample."""
        weights = copies[:, self.images]
        single = np.flatnonzero(self.copy)
        weights[:, single] = weights[:, single] >= self.copy[single]
        return weights


def resampled_ap(
    matched: MatchedDetections,
    copies: Int64[np.ndarray, "r m"],
    thresholds: Sequence[int] = range(IOU_THRESHOLDS),
) -> Float64[np.ndarray, " r"]:
    """Return AP of each resample: the mean over the classes that have a true box in it; NaN where none has.

    Args:
        matched: the detections and true boxes of all images.
        copies: `[r, i]` is how often resample r takes image i.
        thresholds: which of the IoU thresholds 0.50, 0.55, ..., 0.95 are averaged; `[0]` gives AP50.
    """
    total, classes = np.zeros(len(copies)), np.zeros(len(copies))
    for label in np.unique(matched.truth_labels):
        truth = copies[:, matched.truth_images[matched.truth_labels == label]].sum(axis=1)
        ranking = _ranked(matched, int(label), int(copies.max(initial=1)))
        step = max(1, _CELLS // max(1, len(ranking.images)))
        parts = [slice(start, start + step) for start in range(0, len(copies), step)]
        total += np.concatenate([np.zeros(0), *(_ap(ranking, copies[part], truth[part], thresholds) for part in parts)])
        classes += truth > 0
    return np.where(classes > 0, total / np.maximum(classes, 1), np.nan)


def _ap(
    ranking: _Ranking,
    copies: Int64[np.ndarray, "r m"],
    truth: Int64[np.ndarray, " r"],
    thresholds: Sequence[int],
) -> Float64[np.ndarray, " r"]:
    """Return AP of one class in each resample, which has `truth` boxes of it; 0 without one."""
    weights, total = ranking.weights(copies), np.zeros(len(copies))
    counted, before = np.cumsum(weights, axis=1), np.zeros(len(ranking.images), dtype=np.bool_)
    for t in thresholds:
        if not np.array_equal(ranking.ignored[t], before):
            before = ranking.ignored[t]
            counted = np.cumsum(weights * ~before, axis=1)
        rows = np.flatnonzero(ranking.matched[t])
        found = np.cumsum(weights[:, rows], axis=1)
        precision = found / (counted[:, rows] + np.spacing(1))  # the same guard as COCO's, to the last bit
        at_least = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        # the number of recalls that are read at each match: those above its predecessor's and up to its own
        reached = np.searchsorted(_RECALLS, found / np.maximum(truth, 1)[:, None], side="right")
        total += (at_least * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(_RECALLS)
    total[truth == 0] = 0.0
    return total / len(thresholds)


def _ranked(matched: MatchedDetections, label: int, most: int) -> _Ranking:
    """Return the ranking of one class, as COCOeval sorts it, for images that are taken `most` times at most."""
    rows = np.flatnonzero(matched.labels == label)
    rows = rows[np.argsort(-matched.scores[rows], kind="stable")]
    images, scores = matched.images[rows], matched.scores[rows]
    tied = np.zeros(len(rows), dtype=np.bool_)  # with the row before
    tied[1:] = (np.diff(images) == 0) & (np.diff(scores) == 0)
    last = np.flatnonzero(matched.matched[:, rows].any(axis=0)).max(initial=-1)
    kept = slice(0, last + 1 + int(np.argmin(np.append(tied[last + 1 :], False))))  # nothing later changes AP
    ranking = _Ranking(images, np.zeros_like(images), matched.matched[:, rows], matched.ignored[:, rows])
    return _with_copies(ranking.taken(kept), tied[kept], most)


def _with_copies(ranking: _Ranking, tied: Bool[np.ndarray, " n"], most: int) -> _Ranking:
    """Repeat each block of tied rows `most` times, where its rows differ in what they match."""
    flags = np.concatenate([ranking.matched, ranking.ignored])
    differs = np.zeros(len(tied), dtype=np.bool_)
    differs[1:] = (flags[:, 1:] != flags[:, :-1]).any(axis=0)
    if not (tied & differs).any():
        return ranking
    starts = np.flatnonzero(~tied)
    lengths = np.diff(starts, append=len(tied))
    mixed = np.add.reduceat(tied & differs, starts) > 0
    times = np.where(mixed, most, 1)
    rows = _runs(np.repeat(starts, times), np.repeat(lengths, times))
    copy = np.repeat(np.where(mixed, 1, 0), times) * (1 + _runs(np.zeros_like(times), times))
    repeated = ranking.taken(rows)
    return _Ranking(repeated.images, np.repeat(copy, np.repeat(lengths, times)), repeated.matched, repeated.ignored)


def _runs(starts: Int64[np.ndarray, " k"], lengths: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " n"]:
    """Return start, start + 1, ... of each run, one run after the other."""
    offsets = np.repeat(np.cumsum(lengths) - lengths - starts, lengths)
    rows: np.ndarray = np.arange(int(lengths.sum())) - offsets
    return rows
