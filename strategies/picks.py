"""A selection from greedy picks, completed by images that no pick was made of."""

from collections.abc import Sequence

import numpy as np

from alloop.values import ImageId


def picks_and_rest(
    candidates: Sequence[ImageId], rows: Sequence[int], scores: Sequence[float], count: int
) -> tuple[tuple[ImageId, ...], np.ndarray]:
    """Return `count` images and their utilities: the picks in order, then unpicked candidates in their order.

    Args:
        candidates: all images.
        rows: picked candidates, in order.
        scores: the utility of each pick; unpicked images get the smallest one.
        count: how many images to return, at least as many as picks.
    """
    unpicked = np.setdiff1d(np.arange(len(candidates)), rows)
    rest = unpicked[: count - len(rows)].tolist()
    utilities = np.array([*scores, *[min(scores, default=0.0)] * len(rest)])
    return tuple(candidates[row] for row in [*rows, *rest]), utilities
