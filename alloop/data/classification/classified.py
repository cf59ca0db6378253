"""Images with one class each, as a source holds them: what every reader of this package returns."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

UNLABELED = -1


@dataclass(frozen=True, slots=True, eq=False)
class ClassifiedImages:
    """Images of one split, in the order of the source.

    Attributes:
        names: of the images, distinct: a file name below `folder`, or the position in the source, as `test/17`.
        labels: class indices; `UNLABELED` where nobody has given a class.
        class_names: in label order.
        pixels: uint8 RGB of equal size; None where the images are files.
        folder: where the files are; None where the pixels are in memory.
    """

    names: tuple[str, ...]
    labels: Int64[np.ndarray, " n"]
    class_names: tuple[str, ...]
    pixels: UInt8[np.ndarray, "n h w 3"] | None = None
    folder: Path | None = None
