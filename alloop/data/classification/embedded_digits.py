"""`digits`: the embedded set of classification, the 1,797 handwritten digits that scikit-learn ships.

They are divided once for all among pool, reference and test, in the order in which `digit_scenes` divides them.
"""

from typing import Literal

import numpy as np

from alloop.data.classification.classified import ClassifiedImages
from alloop.data.digits import digit_originals

_SHARES = {"pool": (0, 1200), "reference": (1200, 1450), "test": (1450, 1797)}


def embedded_digits(part: Literal["pool", "reference", "test"]) -> ClassifiedImages:
    """Return one part: gray images of 8 x 8 pixels as RGB."""
    images, labels = digit_originals()
    rows = np.arange(*_SHARES[part])
    gray = np.round(images[rows] * 255).astype(np.uint8)
    names = tuple(f"{part}/{row}" for row in range(len(rows)))
    return ClassifiedImages(names, labels[rows], tuple(map(str, range(10))), np.repeat(gray[..., None], 3, axis=3))
