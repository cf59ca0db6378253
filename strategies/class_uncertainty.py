"""The utility of an image that has one class: the uncertainty of its class probabilities."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from alloop.query import Query
from alloop.values import Selection

DistributionUncertainty = Callable[[Float[np.ndarray, "n k"]], Float[np.ndarray, " n"]]
"""From distributions over classes, a row each, to their uncertainties."""


def select_uncertain_classes(query: Query, uncertainty: DistributionUncertainty) -> Selection:
    """Rank by the uncertainty of an image's class, largest first."""
    image_ids = sorted(query.unlabeled)
    return query.top(image_ids, uncertainty(query.detector.class_probabilities(image_ids).astype(np.float64)))
