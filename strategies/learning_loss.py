"""Learning loss (Yoo and Kweon 2019): a small module learns to predict each image's loss; the largest are chosen.

The module reads the pyramid's levels: global average pool, linear and ReLU for each, joined by one linear layer. It
learns to order pairs (i, j) of images of a batch by their losses l (`alloop.detectors.loss_prediction`):

    L_rank = mean over pairs of max(0, margin - s (l^_i - l^_j))     s = +1 if l_i > l_j else -1
"""

from dataclasses import dataclass
from typing import ClassVar

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
    """

    weight: float = 1.0
    margin: float = 1.0
    hidden: int = 128
    detach: bool = True

    source: ClassVar[str] = "Yoo and Kweon 2019"

    @property
    def needs(self) -> frozenset[Need]:
        """Need loss predictions."""
        return frozenset({Need.LOSS_PREDICTIONS})

    @property
    def loss_prediction(self) -> LossPrediction:
        """Settings of the module that is trained beside the detector."""
        return LossPrediction(self.weight, self.margin, self.hidden, self.detach)

    def select(self, query: Query) -> Selection:
        """Rank by predicted loss, largest first."""
        image_ids = sorted(query.unlabeled)
        return query.top(image_ids, query.detector.loss_predictions(image_ids))
