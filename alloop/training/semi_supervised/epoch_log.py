"""The log of a semi-supervised training, with one record per epoch."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor


class EpochLog:
    """One record per epoch, and the counts of the epoch that has not ended yet.

    Attributes:
        records: of all ended epochs; they are stored as JSON and shown in the report.
        counts: `[3, classes]`, pseudo-boxes, correct ones and true boxes.
        unlabeled_images: how many unlabeled images were shown.
    """

    def __init__(self, classes: int) -> None:
        self.records: list[dict[str, Any]] = []
        self.counts: Int64[np.ndarray, "3 k"] = np.zeros((3, classes), dtype=np.int64)
        self.unlabeled_images = 0

    def end_epoch(self, step: int, values: Mapping[str, Any], *, truth_known: bool) -> None:
        """Append a record and begin the next epoch.

        Args:
            step: the last one of the epoch.
            values: further entries of the record.
            truth_known: whether the counts mean something.
        """
        record = {"step": step + 1, "unlabeled_images": self.unlabeled_images, **values}
        if truth_known:
            record |= dict(zip(("pseudo", "right", "true"), self.counts.tolist(), strict=True))
        self.records.append(record)
        self.counts[:] = 0
        self.unlabeled_images = 0

    def to_tensor(self) -> Tensor:
        """Return the records as bytes of JSON."""
        return torch.from_numpy(np.frombuffer(json.dumps(self.records).encode(), dtype=np.uint8).copy())

    def restore(self, records: Tensor, counts: Tensor, unlabeled_images: int) -> None:
        """Go on from records that `to_tensor` returned and from the counts of the current epoch."""
        self.records = json.loads(records.numpy().tobytes())
        self.counts = counts.numpy().copy()
        self.unlabeled_images = unlabeled_images


def rounded(values: Tensor) -> list[float]:
    """Return the values with four decimals."""
    return [round(float(value), 4) for value in values]
