"""MaxHerding: greedy selection of images that are typical and cover the pool (Bae et al. 2024, Generalized Coverage).

    C(S) = mean over the pool x of max over s in S of k(x, s),    k(x, s) = exp(-(|x - s| / bandwidth)^2)
    repeat k times:  pick the c that maximizes g(c) = C(S + c) - C(S) = mean over x of max(0, k(x, c) - best(x));
                     best(x) = max(best(x), k(x, c))

x are embeddings of length 1. An image that is labeled covers itself, so it belongs to S from the start. A pick raises
best(x) only for the x that are nearer to it than to all of S, on average one in t for the t-th pick, and only their
terms of every g(c) are computed again. So k picks cost about 2 + ln k passes over all pairs; nothing n by n is stored.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float32, Int64

from alloop.errors import AlloopError
from alloop.query import Need, Query
from alloop.values import Selection

_CELLS = 1 << 22  # similarities that are held at once


def max_herding(
    features: Float[np.ndarray, "n d"],
    labeled_rows: Sequence[int],
    k: int,
    bandwidth: float = 1.0,
    covered_rows: Int64[np.ndarray, " m"] | None = None,
    progress: Callable[[int], None] = lambda _picked: None,
) -> tuple[list[int], Float[np.ndarray, " k"]]:
    """Return the rows that MaxHerding picks, in order, and the gain in coverage of each; the first row on ties.

    Args:
        features: one row per image, labeled and unlabeled together; they are scaled to length 1.
        labeled_rows: rows that are in the set already.
        k: how many rows to pick.
        bandwidth: distance of unit vectors at which the similarity has fallen to 1/e.
        covered_rows: the rows x that the coverage is a mean over; None for all.
        progress: called with the number of picks.

    Raises:
        AlloopError: features that are not finite, or fewer than k rows left.
    """
    units = _unit_rows(features)
    labeled = np.array(sorted(set(labeled_rows)), dtype=np.int64)
    if k > len(units) - len(labeled):
        msg = f"max_herding: asked for {k} rows, {len(units) - len(labeled)} are not labeled"
        raise AlloopError(msg)
    covered = units if covered_rows is None else units[covered_rows]
    best = np.zeros(len(covered), dtype=np.float32)
    for block, similarities in _similarities(covered, units[labeled], bandwidth):
        best[block] = similarities.max(axis=1, initial=0.0)
    total = np.zeros(len(units))
    for block, similarities in _similarities(covered, units, bandwidth):
        total += _above(similarities, best[block])
    picked: list[int] = []
    gains = np.zeros(k)
    total[labeled] = -np.inf
    for number in range(k):
        row = int(np.argmax(total))
        picked.append(row)
        gains[number] = max(0.0, float(total[row])) / max(1, len(covered))
        _cover(covered, units, row, best, total, bandwidth)
        total[row] = -np.inf
        progress(number + 1)
    return picked, gains


def _cover(
    covered: Float32[np.ndarray, "m d"],
    units: Float32[np.ndarray, "n d"],
    row: int,
    best: Float32[np.ndarray, " m"],
    total: Float[np.ndarray, " n"],
    bandwidth: float,
) -> None:
    """Raise `best` by a pick, and lower the gain of every candidate by what the pick has covered, in place."""
    own = np.concatenate([s[:, 0] for _, s in _similarities(covered, units[row : row + 1], bandwidth)])
    nearer = np.flatnonzero(own > best)
    for block, similarities in _similarities(covered[nearer], units, bandwidth):
        rows = nearer[block]
        total -= _above(similarities, best[rows]) - _above(similarities, own[rows])
    best[nearer] = own[nearer]


def _above(similarities: Float32[np.ndarray, "b n"], level: Float32[np.ndarray, " b"]) -> Float[np.ndarray, " n"]:
    """Return the sum over the rows of max(0, k(x, c) - level(x)), for each c."""
    return np.asarray(np.maximum(similarities - level[:, None], 0.0).sum(axis=0, dtype=np.float64))


def _similarities(
    these: Float32[np.ndarray, "m d"], those: Float32[np.ndarray, "n d"], bandwidth: float
) -> Iterator[tuple[slice, Float32[np.ndarray, "b n"]]]:
    """Yield `k(x, c)` of some rows of `these` with all of `those`, block by block."""
    step = max(1, _CELLS // max(1, len(those)))
    for start in range(0, len(these), step):
        block = slice(start, start + step)
        distances = 2.0 - 2.0 * (these[block] @ those.T)  # squared, of unit vectors
        np.maximum(distances, 0.0, out=distances)
        distances /= np.float32(-(bandwidth**2))
        yield block, np.exp(distances, out=distances)


def _unit_rows(features: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Return rows of length 1; a row of zeros stays."""
    rows = np.asarray(features, dtype=np.float64)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    if not np.isfinite(lengths).all():
        row = int(np.flatnonzero(~np.isfinite(lengths[:, 0]))[0])
        msg = f"max_herding: features of row {row} are not finite (or their squares overflow)"
        raise AlloopError(msg)
    units: np.ndarray = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return units.astype(np.float32)


@dataclass(frozen=True)
class MaxHerding:
    """Choose images that cover the pool: each is typical of many that nothing labeled or chosen is like.

    Attributes:
        bandwidth: distance of embeddings of length 1 at which two images count as alike to 1/e.
        covered: the coverage is a mean over at most this many images, drawn at random; None for all of the pool.
    """

    bandwidth: float = 1.0
    covered: int | None = 20_000

    source: ClassVar[str] = "Bae et al. 2024"

    def __post_init__(self) -> None:
        """Raise ValueError unless the bandwidth is a positive number, and for less than one image."""
        if not 0 < self.bandwidth < np.inf:
            raise ValueError(f"bandwidth: expected a number above 0, found {self.bandwidth}")
        if self.covered is not None and self.covered < 1:
            raise ValueError(f"covered: expected 1 or more, found {self.covered}")

    @property
    def needs(self) -> frozenset[Need]:
        """Need embeddings."""
        return frozenset({Need.EMBEDDINGS})

    def select(self, query: Query) -> Selection:
        """List the picks in order; the utility of a pick is its gain in coverage."""
        labeled, candidates = sorted(query.labeled), query.candidates()
        features = query.detector.embeddings([*labeled, *candidates])
        picked, gains = max_herding(
            features,
            range(len(labeled)),
            query.count,
            self.bandwidth,
            self._covered(query, len(labeled), len(candidates)),
            lambda done: query.progress("selecting", done, query.count),
        )
        return Selection(tuple(candidates[row - len(labeled)] for row in picked), gains)

    def _covered(self, query: Query, labeled: int, candidates: int) -> Int64[np.ndarray, " m"] | None:
        """Return the rows of the unlabeled images that the coverage is a mean over: labeled ones cover themselves."""
        if self.covered is None or candidates <= self.covered:
            return None
        return np.sort(query.rng.choice(candidates, self.covered, replace=False)) + labeled
