"""Accuracy of a classifier on the test split."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int64

from alloop.evaluation.metrics import Metrics

_TOP = 5


def accuracy(
    labels: Int64[np.ndarray, " n"], probabilities: Float[np.ndarray, "n k"], class_names: Sequence[str]
) -> Metrics:
    """Return the share of images whose class is the most probable one, among all images and of each class.

    Args:
        labels: the true class of each image.
        probabilities: of each class; of equal ones the first class counts as the most probable.
        class_names: in label order.

    Returns:
        `accuracy`; `mean_class_accuracy`, the mean over the classes that have an image; and `top5_accuracy`, the share
        of images whose class is among the five most probable, None for at most five classes. All are None without an
        image.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    hits = order[:, 0] == labels
    of_class = {name: _mean(hits[labels == label]) for label, name in enumerate(class_names)}
    known = [value for value in of_class.values() if value is not None]
    in_top = (order[:, :_TOP] == labels[:, None]).any(axis=1) if len(class_names) > _TOP else hits[:0]
    values: Mapping[str, float | None] = {
        "accuracy": _mean(hits),
        "mean_class_accuracy": float(np.mean(known)) if known else None,
        "top5_accuracy": _mean(in_top),
    }
    return Metrics(values, of_class)


def _mean(hits: np.ndarray) -> float | None:
    return float(hits.mean()) if len(hits) else None
