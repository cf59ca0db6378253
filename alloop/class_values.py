"""The value of image classification: what an oracle says of one image."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from alloop.values import Annotations, read_only


@dataclass(frozen=True, slots=True)
class ClassLabel:
    """The class of one image by an oracle. `len()` is the one label that is paid for.

    Attributes:
        label: class index.
    """

    label: int

    @property
    def labels(self) -> Int64[np.ndarray, "1"]:
        """The label as the only one of its image."""
        return read_only(np.array([self.label], dtype=np.int64))

    @property
    def trainable(self) -> Bool[np.ndarray, "1"]:
        """Whether it is trained on: always."""
        return read_only(np.ones(1, dtype=np.bool_))

    def __len__(self) -> int:
        """Return the number of paid labels."""
        return 1


Truth = Annotations | ClassLabel
"""What an oracle says of one image. `len()` is what is paid for."""
