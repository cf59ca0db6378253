"""k-center greedy: farthest-first traversal (Gonzalez 1985; Sener and Savarese 2018, algorithm 1).

    d(u) = min over labeled l of dist(x_u, x_l)
    repeat k times:  pick i = argmax_u d(u);  d(u) = min(d(u), dist(x_u, x_i))

Each pick streams once through the features (one matrix-vector product) and nothing n by n is ever stored: beside the
features there are three vectors of length n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from alloop.errors import AlloopError
from alloop.query import Need, Query
from alloop.values import Selection

Metric = Literal["euclidean", "cosine"]
_BLOCK = 256  # labeled rows joined into one matrix product at the start


def k_center_greedy(
    features: Float[np.ndarray, "n d"], labeled_rows: Sequence[int], k: int, metric: Metric = "euclidean"
) -> list[int]:
    """Return the rows that greedy k-center picks, in order; the first row on ties.

    Without labeled rows the first pick is row 0, as in the reference implementation.

    Args:
        features: one row per image, labeled and unlabeled together.
        labeled_rows: rows that are centers already.
        k: how many rows to pick.
        metric: Euclidean, or 1 - cosine of the angle (a zero vector is at distance 1 from everything).

    Raises:
        AlloopError: features that are not finite, rows outside, or fewer than k rows left.
    """
    rows, _ = farthest_first(features, labeled_rows, k, metric)
    return rows


def farthest_first(
    features: Float[np.ndarray, "n d"], labeled_rows: Sequence[int], k: int, metric: Metric = "euclidean"
) -> tuple[list[int], Float[np.ndarray, " k"]]:
    """Return the rows of `k_center_greedy` and the distance of each to the centers before it (squared if Euclidean)."""
    features = _floating(features)
    _check(features, labeled_rows, k, metric)
    norms = _squared_norms(features)
    # dist(u, c) = a(u) - b(c) * (x_u . x_c) + e(c): one product and one pass over vectors for both metrics
    scale = np.sqrt(norms) if metric == "cosine" else None
    distance = np.full(len(features), np.inf, dtype=norms.dtype)
    for start in range(0, len(labeled_rows), _BLOCK):
        _approach_all(distance, features, np.asarray(labeled_rows[start : start + _BLOCK]), norms, scale)
    distance[list(labeled_rows)] = -np.inf
    picked: list[int] = []
    radii = np.zeros(k, dtype=np.float64)
    for number in range(k):
        row = int(np.argmax(distance))
        picked.append(row)
        radii[number] = distance[row]
        _approach(distance, features, row, norms, scale)
        distance[row] = -np.inf
    return picked, radii


def _floating(features: np.ndarray) -> np.ndarray:
    """Return float32 and float64 without a copy, and half precision and whole numbers widened."""
    features = np.asarray(features)
    if features.dtype == np.float16:
        return features.astype(np.float32)
    return features.astype(np.float64) if features.dtype.kind in "iub" else features


def _check(features: np.ndarray, labeled_rows: Sequence[int], k: int, metric: str) -> None:
    """Raise AlloopError on arguments that have no answer."""
    n = len(features)
    if features.ndim != 2 or features.dtype.kind != "f":
        msg = f"k_center_greedy: expected numbers [n, d], found {features.dtype} {features.shape}"
        raise AlloopError(msg)
    if metric not in ("euclidean", "cosine"):
        msg = f"k_center_greedy: expected metric euclidean or cosine, found {metric!r}"
        raise AlloopError(msg)
    if any(not 0 <= row < n for row in labeled_rows):
        msg = f"k_center_greedy: labeled_rows must lie in 0..{n - 1}, found {list(labeled_rows)[:5]}"
        raise AlloopError(msg)
    if k < 0 or k > n - len(set(labeled_rows)):
        msg = f"k_center_greedy: asked for {k} rows, {n - len(set(labeled_rows))} are not labeled"
        raise AlloopError(msg)


def _squared_norms(features: np.ndarray) -> np.ndarray:
    """Return |x|^2 of each row; raise AlloopError where it is not finite."""
    norms: np.ndarray = np.einsum("nd,nd->n", features, features)
    if not np.isfinite(norms).all():
        row = int(np.flatnonzero(~np.isfinite(norms))[0])
        msg = f"k_center_greedy: features of row {row} are not finite (or their squares overflow)"
        raise AlloopError(msg)
    return norms


def _approach(
    distance: np.ndarray, features: np.ndarray, row: int, norms: np.ndarray, scale: np.ndarray | None
) -> None:
    """Lower each distance to that from the new center `row`, in place."""
    product = features @ features[row]  # [n], streams through the features once
    _to_distance(product, norms, norms[row], scale, None if scale is None else scale[row])
    np.minimum(distance, product, out=distance)


def _approach_all(
    distance: np.ndarray, features: np.ndarray, rows: np.ndarray, norms: np.ndarray, scale: np.ndarray | None
) -> None:
    """Lower each distance to that from the nearest of many centers, block by block of the features, in place."""
    step = max(1, features.size // (50 * len(rows)))  # products take a fiftieth of the features
    for start in range(0, len(features), step):
        cut = slice(start, start + step)
        products = features[cut] @ features[rows].T  # [block, rows]
        for column, row in enumerate(rows):
            product = np.ascontiguousarray(products[:, column])
            block_scale = None if scale is None else scale[cut]
            _to_distance(product, norms[cut], norms[row], block_scale, None if scale is None else scale[row])
            np.minimum(distance[cut], product, out=distance[cut])


def _to_distance(
    product: np.ndarray,
    norms: np.ndarray,
    center_norm: np.floating,
    scale: np.ndarray | None,
    center_scale: np.floating | None,
) -> None:
    """Turn inner products u.c into distances, in place: |u|^2 + |c|^2 - 2 u.c, or 1 - u.c / (|u| |c|)."""
    if scale is None or center_scale is None:
        product *= -2
        product += norms
        product += center_norm
        return
    lengths = scale * center_scale
    np.divide(product, lengths, out=product, where=lengths > 0)
    np.subtract(1, product, out=product)


@dataclass(frozen=True)
class KCenter:
    """Choose the images farthest from all labeled and chosen ones, in the space of the detector's embeddings.

    Attributes:
        metric: `cosine`, as ISAL used it for detection, or `euclidean`.
    """

    metric: Metric = "cosine"

    source: ClassVar[str] = "Sener and Savarese 2018"

    @property
    def needs(self) -> frozenset[Need]:
        """Need embeddings."""
        return frozenset({Need.EMBEDDINGS})

    def select(self, query: Query) -> Selection:
        """List the picks in order; the utility of a pick is its distance to the nearest center before it."""
        labeled, candidates = sorted(query.labeled), query.candidates()
        features = query.detector.embeddings([*labeled, *candidates])
        query.progress("selecting", 0, query.count)
        rows, radii = farthest_first(features, range(len(labeled)), query.count, self.metric)
        finite = np.where(np.isfinite(radii), radii, 0.0)
        return Selection(tuple(candidates[row - len(labeled)] for row in rows), finite)
