"""Coverage-centric coreset selection (Zheng et al. 2023), on TFDP's scores of mask pixels.

1. cut the share beta of the images that are hardest (of smallest AUM): likely mislabeled
2. cut the range of the remaining scores into m strata of equal width
3. give each stratum a budget, smallest stratum first: its share of what is left to give, or all it has
4. draw that many images at random from each stratum
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int64

from alloop.query import Need, Query
from alloop.strategy import AnnotationSource
from alloop.values import ImageId, Selection
from strategies.aum import Aum
from strategies.el2n import El2n
from strategies.mask_pixels import MASK_NEEDS, Aggregation, image_scores


def hardest(scores: Float[np.ndarray, " n"], beta: float, k: int) -> Int64[np.ndarray, " c"]:
    """Return the rows of the floor(beta n) smallest scores, or of fewer so that at least k rows remain."""
    return np.argsort(scores, kind="stable")[: min(int(beta * len(scores)), len(scores) - k)]


def strata(scores: Float[np.ndarray, " n"], m: int) -> Int64[np.ndarray, " n"]:
    """Return the stratum 0 .. m-1 of each score; all have equal width.

    They reach from the smallest score to a ten-thousandth above the largest.
    """
    low, high = float(scores.min()), float(scores.max())
    width = (high + 1e-4 * abs(high) - low) / m
    if width <= 0:
        return np.zeros(len(scores), dtype=np.int64)
    return np.minimum(((scores - low) / width).astype(np.int64), m - 1)


def budgets(sizes: Int64[np.ndarray, " m"], k: int) -> Int64[np.ndarray, " m"]:
    """Return how many to draw from each stratum: smallest first, each its share of what is left, or all it has."""
    given = np.zeros_like(sizes)
    left = k
    order = np.argsort(sizes, kind="stable")
    for rank, stratum in enumerate(order):
        given[stratum] = min(sizes[stratum], left // (len(order) - rank))
        left -= int(given[stratum])
    return given


def coverage(
    scores: Float[np.ndarray, " n"], k: int, beta: float, m: int, generator: np.random.Generator
) -> Int64[np.ndarray, " k"]:
    """Return the k rows that are drawn, stratum by stratum."""
    rows = np.setdiff1d(np.arange(len(scores)), hardest(scores, beta, k))
    stratum = strata(scores[rows], m)
    budget = budgets(np.bincount(stratum, minlength=m), k)
    return np.concatenate([generator.permutation(rows[stratum == s])[: budget[s]] for s in range(m)])


@dataclass(frozen=True)
class Ccs:
    """Draw images evenly over the range of a difficulty score, the hardest left out.

    Attributes:
        annotations: score `predicted` masks, or the `true` ones, which only pruning and simulated studies allow.
        score: of difficulty: `aum`, or `el2n` as in the released code for VOC.
        aggregation: `sum` over the instances, as published, or their `mean`; a sum of AUM is smallest, and so cut as
            hardest, where there are few instances, see `strategies.aum`.
        beta: share of the hardest images that is cut.
        strata: m.
        score_threshold: detections of a lower score are no instances.
    """

    annotations: AnnotationSource = "predicted"
    score: Literal["aum", "el2n"] = "aum"
    aggregation: Aggregation = "sum"
    beta: float = 0.1
    strata: int = 50
    score_threshold: float = 0.3

    source: ClassVar[str] = "Zheng et al. 2023"
    greedy: ClassVar[bool] = True  # the budgets of the strata depend on how many images are asked for

    def __post_init__(self) -> None:
        """Raise ValueError on a beta outside [0, 1) and on less than one stratum."""
        if not 0 <= self.beta < 1 or self.strata < 1:
            raise ValueError(f"beta and strata: expected 0..1 and at least 1, found {self.beta} and {self.strata}")

    @property
    def needs(self) -> frozenset[Need]:
        """Need masks at several states of the training, and the detections that locate them."""
        return MASK_NEEDS | {Need.SNAPSHOTS}

    def select(self, query: Query) -> Selection:
        """List the drawn images in random order, with their ease as utility; those without an instance come last."""
        image_ids, ease, scored = self._ease(query)
        query.progress("selecting", 0, query.count)
        rows = np.flatnonzero(scored)
        take = min(query.count, len(rows))
        drawn = rows[coverage(ease[rows], take, self.beta, self.strata, query.rng)] if take else rows
        drawn = query.rng.permutation(drawn)
        unscored = set(image_ids[~scored].tolist())
        rest = [i for i in query.candidates() if i in unscored][: query.count - take]
        query.progress("selecting", query.count, query.count)
        utilities = np.concatenate([ease[drawn], np.full(len(rest), ease[drawn].min() if take else 0.0)])
        return Selection((*(ImageId(int(i)) for i in image_ids[drawn]), *rest), utilities)

    def _ease(self, query: Query) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the unlabeled ids, ascending, the ease of each image, and which images have an instance."""
        method, sign = (Aum, 1) if self.score == "aum" else (El2n, -1)
        instances = method(self.annotations, score_threshold=self.score_threshold).instance_scores(query)
        image_ids = np.array(sorted(query.unlabeled), dtype=np.int64)
        ease = image_scores(instances, image_ids, self.aggregation) * sign
        return image_ids, ease, np.isin(image_ids, instances.image_ids)
