"""How often an image is shown per epoch, so that rare classes are trained on more often.

Repeat factor sampling (RFS; Gupta, Dollar and Girshick, LVIS, CVPR 2019), for labeled images:

    f_c = share of images with class c,   r_c = max(1, sqrt(t / f_c)),   r_I = max over classes of I of r_c

Class-rebalancing sampling (CrS; Li et al., CI-SSOD, ICCV 2023), for images with pseudo-labels whose score passes
their threshold by q; labeled and pseudo-labeled images count together in f_c:

    r_c = max(1, sqrt(g t / (T f_c))),   r_I = max(1, max over boxes of I of r_c q)

Each image is shown ceil(r_I) times.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64


def class_frequencies(labels: Sequence[Int64[np.ndarray, " _"]], classes: int) -> Float[np.ndarray, " k"]:
    """Return the share of the images that show each class; `labels` are those of each image's boxes."""
    counts = np.zeros(classes)
    for image_labels in labels:
        counts[np.unique(image_labels)] += 1
    return counts / max(1, len(labels))


def class_repeats(frequencies: Float[np.ndarray, " k"], threshold: float) -> Float[np.ndarray, " k"]:
    """Return r_c, how often images of a class should be shown; 1 for a class that no image shows."""
    share = np.where(frequencies > 0, frequencies, np.inf)
    return np.maximum(1.0, np.sqrt(threshold / share))


def image_repeats(labels: Sequence[Int64[np.ndarray, " _"]], classes: int, threshold: float) -> Int64[np.ndarray, " n"]:
    """Return by RFS how often each labeled image is shown; 1 for an image without a box."""
    repeats = class_repeats(class_frequencies(labels, classes), threshold)
    return np.array([int(np.ceil(repeats[y].max(initial=1.0))) for y in labels], dtype=np.int64)


def pseudo_labeled_repeats(
    labels: Sequence[Int64[np.ndarray, " _"]],
    residuals: Sequence[Float[np.ndarray, " _"]],
    frequencies: Float[np.ndarray, " k"],
    constant: float,
    done: float,
) -> Int64[np.ndarray, " n"]:
    """Return by CrS how often each image with pseudo-labels is shown.

    Args:
        labels: classes of the pseudo-boxes of each image.
        residuals: score minus threshold of each.
        frequencies: f, over labeled and pseudo-labeled images together.
        constant: g, 0.5 for COCO, 0.05 for rarer classes.
        done: finished share of the training, t / T.
    """
    repeats = class_repeats(frequencies, min(constant * done, constant))
    repeats_of_image = [(repeats[y] * q).max(initial=1.0) for y, q in zip(labels, residuals, strict=True)]
    return np.ceil(repeats_of_image).astype(np.int64)
