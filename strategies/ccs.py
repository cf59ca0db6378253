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
from alloop.values import ImageId, Selection
from strategies.aum import Aum
from strategies.el2n import El2n
from strategies.instances import Source
from strategies.mask_pixels import NEEDS


def hardest(scores: Float[np.ndarray, " n"], beta: float, k: int) -> Int64[np.ndarray, " c"]:
    """Rows of the floor(beta n) smallest scores, but never so many that fewer than k are left."""
    return np.argsort(scores, kind="stable")[: min(int(beta * len(scores)), len(scores) - k)]


def strata(scores: Float[np.ndarray, " n"], m: int) -> Int64[np.ndarray, " n"]:
    """The stratum of each score: m of equal width from the least to a ten-thousandth above the largest."""
    low, high = float(scores.min()), float(scores.max())
    width = (high + 1e-4 * abs(high) - low) / m
    if width <= 0:
        return np.zeros(len(scores), dtype=np.int64)
    return np.minimum(((scores - low) / width).astype(np.int64), m - 1)


def budgets(sizes: Int64[np.ndarray, " m"], k: int) -> Int64[np.ndarray, " m"]:
    """How many to draw from each stratum: smallest first, each its share of what is left, or all it has."""
    given, left = np.zeros_like(sizes), k
    order = np.argsort(sizes, kind="stable")
    for place, stratum in enumerate(order):
        given[stratum] = min(sizes[stratum], left // (len(order) - place))
        left -= int(given[stratum])
    return given


def coverage(
    scores: Float[np.ndarray, " n"], k: int, beta: float, m: int, random_: np.random.Generator
) -> Int64[np.ndarray, " k"]:
    """The k rows that are drawn, stratum by stratum."""
    rows = np.setdiff1d(np.arange(len(scores)), hardest(scores, beta, k))
    stratum = strata(scores[rows], m)
    share = budgets(np.bincount(stratum, minlength=m), k)
    return np.concatenate([random_.permutation(rows[stratum == s])[: share[s]] for s in range(m)])


@dataclass(frozen=True)
class Ccs:
    """Images drawn evenly over the range of a difficulty, the hardest left out.

    Attributes:
        annotations: score `predicted` masks, or the `true` ones, which only pruning and simulated studies allow.
        score: of difficulty: `aum`, or `el2n` as in the released code for VOC.
        beta: share of the hardest images that is cut.
        strata: m.
        score_threshold: less confident predictions are no instances.
    """

    annotations: Source = "predicted"
    score: Literal["aum", "el2n"] = "aum"
    beta: float = 0.1
    strata: int = 50
    score_threshold: float = 0.3

    needs: ClassVar[frozenset[Need]] = NEEDS | {Need.SNAPSHOTS}
    source: ClassVar[str] = "Zheng et al. 2023"
    greedy: ClassVar[bool] = True  # what is drawn depends on how many are asked for

    def __post_init__(self) -> None:
        """Raise ValueError on numbers that make no sense."""
        if not 0 <= self.beta < 1 or self.strata < 1:
            raise ValueError(f"beta and strata: expected 0..1 and at least 1, found {self.beta} and {self.strata}")

    def select(self, query: Query) -> Selection:
        """Draws in random order, the utility being the ease of each; images without an instance come last."""
        method = Aum if self.score == "aum" else El2n
        instances = method(self.annotations, score_threshold=self.score_threshold).instance_scores(query)
        image_ids = np.array(sorted(query.unlabeled), dtype=np.int64)
        ease = instances.summed(image_ids) * (1 if self.score == "aum" else -1)
        scored = np.isin(image_ids, instances.image_ids)
        query.progress("selecting", 0, query.count)
        rows, take = np.flatnonzero(scored), min(query.count, int(scored.sum()))
        drawn = rows[coverage(ease[rows], take, self.beta, self.strata, query.rng)] if take else rows
        drawn = query.rng.permutation(drawn)
        names = [ImageId(int(i)) for i in image_ids[drawn]]
        known = set(image_ids[rows].tolist())
        rest = [i for i in query.candidates() if i not in known][: query.count - take]
        query.progress("selecting", query.count, query.count)
        utilities = np.concatenate([ease[drawn], np.full(len(rest), ease[drawn].min() if take else 0.0)])
        return Selection((*names, *rest), utilities)
