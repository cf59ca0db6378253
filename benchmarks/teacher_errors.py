"""What the errors of a teacher cost: the same training, with parts of the pseudo-labels replaced by the hidden truth.

    python benchmarks/teacher_errors.py configs/aquarium_semi_supervised.yaml OUT [workers]

One kind of error is removed at a time: wrong boxes; missed objects, which are otherwise trained as background; both at
once, which is the same as all labels. The cost of each is read off the AP. This is possible in a simulation only. Runs
of `semi_supervised.py study` in the same folder are used again.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from semi_supervised import SEEDS, Job, finish, run_folder, table, trained
from torch import Tensor

from alloop.config import load_config
from alloop.detectors.protocol import CachedFeatures
from alloop.detectors.region_protocol import PseudoBoxes
from alloop.geometry.boxes import pairwise_iou
from alloop.loop import fitting
from alloop.training.semi_supervised.objective import SemiSupervisedObjective
from alloop.training.semi_supervised.pseudo_labels import MATCH
from alloop.values import ImageId

REGION_MATCH = 0.3  # IoU from which a region counts as showing an object


class Corrected(SemiSupervisedObjective):
    """The objective of a student whose teacher has one kind of error less."""

    _ids: list[ImageId]

    def _record_pseudo_boxes(self, image_ids: list[ImageId], pseudo: list[PseudoBoxes], thresholds: Tensor) -> None:
        """Record the pseudo-boxes of the teacher itself."""
        super()._record_pseudo_boxes(image_ids, pseudo, thresholds)
        self._ids = image_ids

    def _true_boxes(self, image: int) -> tuple[Tensor, Tensor]:
        """Return boxes, in pixels of the teacher's view, and labels of an image of this step."""
        assert self._truth is not None, "give a simulation"
        truth = self._truth(self._ids[image])
        boxes = truth.boxes[truth.trainable] * self._unlabeled.box_scale(self._ids[image])
        return torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(truth.labels[truth.trainable])


class WithoutWrongBoxes(Corrected):
    """Proposals are kept where an object is, other pseudo-boxes only where the object is of their class."""

    def _unlabeled_losses(
        self, images: list[Tensor], features: CachedFeatures, pseudo: list[PseudoBoxes]
    ) -> dict[str, Tensor]:
        kept = [self._kept(image, boxes) for image, boxes in enumerate(pseudo)]
        return super()._unlabeled_losses(images, features, kept)

    def _kept(self, image: int, pseudo: PseudoBoxes) -> PseudoBoxes:
        true, labels = self._true_boxes(image)
        correct = _matched(pseudo.boxes, true, pseudo.labels, labels)
        reliable = _matched(pseudo.reliable, true, pseudo.reliable_labels, labels)
        return PseudoBoxes(
            proposals=pseudo.proposals[_matched(pseudo.proposals, true)],
            boxes=pseudo.boxes[correct],
            labels=pseudo.labels[correct],
            scores=pseudo.scores[correct],
            reliable=pseudo.reliable[reliable],
            reliable_labels=pseudo.reliable_labels[reliable],
        )


class WithoutMissedObjects(Corrected):
    """Regions that show an object which the teacher missed are left out of the classification loss.

    The loss of the proposals, which has no such weights, is left out as a whole.
    """

    _missed: list[Tensor]

    def _unlabeled_losses(
        self, images: list[Tensor], features: CachedFeatures, pseudo: list[PseudoBoxes]
    ) -> dict[str, Tensor]:
        self._missed = []
        for image, boxes in enumerate(pseudo):
            true, _ = self._true_boxes(image)
            self._missed.append(true[~_matched(true, boxes.boxes)])
        terms = super()._unlabeled_losses(images, features, pseudo)
        return {name: term for name, term in terms.items() if name != "loss_objectness"}

    def _background(self, features: CachedFeatures, regions: list[Tensor]) -> list[Tensor]:
        probabilities = super()._background(features, regions)
        return [
            torch.where(_matched(boxes, missed, threshold=REGION_MATCH), 0.0, background)
            for background, boxes, missed in zip(probabilities, regions, self._missed, strict=True)
        ]


class TrueBoxes(Corrected):
    """Every true box and no other is a pseudo-box."""

    def _unlabeled_losses(
        self, images: list[Tensor], features: CachedFeatures, pseudo: list[PseudoBoxes]
    ) -> dict[str, Tensor]:
        true = []
        for image in range(len(pseudo)):
            boxes, labels = self._true_boxes(image)
            true.append(PseudoBoxes(boxes, boxes, labels, torch.ones(len(labels)), boxes, labels))
        return super()._unlabeled_losses(images, features, true)


def _matched(
    boxes: Tensor,
    others: Tensor,
    labels: Tensor | None = None,
    other_labels: Tensor | None = None,
    threshold: float = MATCH,
) -> Tensor:
    """Return which boxes overlap another one, of the same class where labels are given."""
    if not len(boxes) or not len(others):
        return torch.zeros(len(boxes), dtype=torch.bool)
    overlap = torch.from_numpy(pairwise_iou(boxes.numpy(), others.numpy()))
    if labels is not None and other_labels is not None:
        overlap = overlap * (labels[:, None] == other_labels[None])
    return overlap.amax(dim=1) >= threshold


# name -> (recipe of `semi_supervised.py`, its objective)
ARMS: dict[str, tuple[str, type[SemiSupervisedObjective]]] = {
    "supervised": ("supervised", SemiSupervisedObjective),
    "+ teacher": ("+ teacher", SemiSupervisedObjective),
    "without wrong boxes": ("+ teacher", WithoutWrongBoxes),
    "without missed objects as background": ("+ teacher", WithoutMissedObjects),
    "true boxes": ("+ teacher", TrueBoxes),
    "true boxes + GbR": ("+ GbR", TrueBoxes),
}


def trained_arm(job: Job) -> str:
    """Train one arm under one seed and return the name of its folder."""
    config, arm, seed, folder = job
    name, fitting.SemiSupervisedObjective = ARMS[arm]  # type: ignore[misc]
    return trained((config, name, seed, folder))


def main(path: Path, out: Path, workers: int) -> None:
    """Train what is not trained yet, and print the table."""
    config = load_config(path)
    finish(trained_arm, [(config, arm, seed, run_folder(out, arm, seed)) for seed in SEEDS for arm in ARMS], workers)
    table(out, ARMS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 2)
