"""Learning loss (Yoo and Kweon 2019): a small module learns to predict each image's loss; the largest are chosen.

The module reads the pyramid's levels: global average pool, linear and ReLU for each, joined by one linear layer. It
learns to order pairs (i, j) of images of a batch by their losses l (`alloop.detectors.loss_prediction`):

    L_rank = mean over pairs of max(0, margin - s (l^_i - l^_j))     s = +1 if l_i > l_j else -1
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int64

from alloop.query import Need, Query
from alloop.strategy import LossPrediction
from alloop.values import Selection


@dataclass(frozen=True)
class LearningLoss:
    """Choose the images of the largest predicted loss.

    Attributes:
        weight: of the ranking loss beside the detector's losses.
        margin: by which the predictions of a pair should differ.
        hidden: width of the module for each pyramid level.
        detach: whether the module's gradient is kept out of the detector, as ISAL did for detection; the detector is
            then the same, bit by bit, as without the module.
        detach_from: share of the training from which on it is kept out; ISAL classified with 0.6, which is epoch 120
            of 200.
        subset: number of unlabeled images that are drawn at random and ranked, the others come last; None ranks all.
            ISAL classified with 10,000.
    """

    weight: float = 1.0
    margin: float = 1.0
    hidden: int = 128
    detach: bool = True
    detach_from: float = 0.0
    subset: int | None = None

    source: ClassVar[str] = "Yoo and Kweon 2019"

    def __post_init__(self) -> None:
        """Raise ValueError on a share or a number of images that is out of range."""
        if not 0 <= self.detach_from <= 1:
            raise ValueError(f"detach_from: expected a share from 0 to 1, found {self.detach_from}")
        if self.subset is not None and self.subset < 1:
            raise ValueError(f"subset: expected a positive number of images, or null, found {self.subset}")

    @property
    def needs(self) -> frozenset[Need]:
        """Need loss predictions."""
        return frozenset({Need.LOSS_PREDICTIONS})

    @property
    def loss_prediction(self) -> LossPrediction:
        """Settings of the module that is trained beside the detector."""
        return LossPrediction(self.weight, self.margin, self.hidden, self.detach, self.detach_from)

    def select(self, query: Query) -> Selection:
        """Rank by predicted loss, largest first."""
        image_ids, drawn = sorted(query.unlabeled), self._drawn(query)
        losses = np.zeros(len(image_ids))
        losses[drawn] = query.detector.loss_predictions([image_ids[row] for row in drawn])
        scored = np.isin(np.arange(len(image_ids)), drawn)
        return query.top(image_ids, losses, scored=scored)

    def _drawn(self, query: Query) -> Int64[np.ndarray, " n"]:
        """Return the rows of the images that are ranked, in ascending order."""
        images = len(query.unlabeled)
        if self.subset is None or self.subset >= images:
            return np.arange(images)
        return np.sort(query.rng.choice(images, self.subset, replace=False))
