"""Class-rebalancing sampling (CrS): images with pseudo-labels of rare classes are shown more often.

Li et al., CI-SSOD, ICCV 2023; `repeat_factors.pseudo_labeled_repeats` has the equation.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from alloop.config.training import SemiSupervisedConfig
from alloop.detectors.region_protocol import PseudoBoxes
from alloop.training.repeat_factors import class_frequencies, pseudo_labeled_repeats


class Resampling:
    """The latest pseudo-labels of each unlabeled image, and how often the image is to be shown because of them.

    Attributes:
        latest: row of the image -> labels of its pseudo-boxes and their residuals, score minus threshold.
    """

    def __init__(self, config: SemiSupervisedConfig, *, images: int, classes: int, steps: int) -> None:
        self._config = config
        self._images = images
        self._classes = classes
        self._steps = steps
        self.latest: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def record(self, row: int, pseudo: PseudoBoxes, thresholds: Tensor) -> None:
        """Replace the pseudo-labels of an image."""
        residuals = (pseudo.scores - thresholds[pseudo.labels]).float().cpu().numpy()
        self.latest[row] = pseudo.labels.cpu().numpy(), residuals

    def due(self, step: int) -> bool:
        """Return whether the repeats are to be computed anew before this step."""
        every = max(1, round(self._config.refresh * self._steps))
        return step % every == 0 and len(self.latest) > 0

    def repeats(self, labeled: Sequence[np.ndarray], step: int) -> Int64[np.ndarray, " images"]:
        """Return how often each unlabeled image is to be shown per epoch; once where it has no pseudo-labels.

        Args:
            labeled: classes of the boxes of each labeled image.
            step: of the training.
        """
        labels = [image_labels for image_labels, _ in self.latest.values()]
        residuals = [image_residuals.astype(np.float64) for _, image_residuals in self.latest.values()]
        frequencies = class_frequencies([*labeled, *labels], self._classes)
        repeats = np.ones(self._images, dtype=np.int64)
        repeats[list(self.latest)] = pseudo_labeled_repeats(
            labels, residuals, frequencies, self._config.resampling_constant, step / self._steps
        )
        return repeats

    def state(self) -> dict[str, Tensor]:
        """Return the pseudo-labels of all images, joined, with the number of each image."""
        labels = [image_labels for image_labels, _ in self.latest.values()]
        residuals = [image_residuals for _, image_residuals in self.latest.values()]
        arrays = {
            "rows": np.array(list(self.latest), dtype=np.int64),
            "sizes": np.array([len(image_labels) for image_labels in labels], dtype=np.int64),
            "labels": np.concatenate([np.zeros(0, np.int64), *labels]),
            "residuals": np.concatenate([np.zeros(0, np.float32), *residuals]),
        }
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that `state` returned."""
        ends = state["sizes"].numpy().cumsum()[:-1]
        labels = np.split(state["labels"].numpy(), ends)
        residuals = np.split(state["residuals"].numpy(), ends)
        # without any image `np.split` still returns one empty part, which `zip` drops
        self.latest = dict(zip(state["rows"].tolist(), zip(labels, residuals, strict=True), strict=False))
