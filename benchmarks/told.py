"""Why a teacher helps or does not: the same training, were what the student is told better than its teacher knows.

    python benchmarks/told.py configs/aquarium_semi_supervised.yaml OUT [workers]

The hidden truth of the unlabeled images mends one fault of the teacher at a time, so that what the fault costs can be
read off the AP: boxes that are wrong; boxes that are missed and therefore taught as background; both at once, which is
to say all labels. Nothing here can be had outside a simulation. Runs of `semi_supervised.py study` in the same folder
are taken over.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from semi_supervised import SEEDS, Job, finish, place, table, trained
from torch import Tensor

from alloop.config import load_config
from alloop.detectors.protocol import PseudoBoxes
from alloop.geometry.boxes import pairwise_iou
from alloop.loop import fitting
from alloop.training.semi_supervised.objective import SemiSupervisedObjective
from alloop.training.semi_supervised.pseudo_labels import MATCH
from alloop.values import ImageId

TOUCHED = 0.3  # IoU from which a region is taken to show an object


class Mended(SemiSupervisedObjective):
    """The lessons of a teacher with one of its faults mended."""

    _ids: list[ImageId]

    def _remember(self, image_ids: list[ImageId], pseudo: list[PseudoBoxes], thresholds: Tensor) -> None:
        """What is recorded is what the teacher itself said."""
        super()._remember(image_ids, pseudo, thresholds)
        self._ids = image_ids

    def _true(self, image: int) -> tuple[Tensor, Tensor]:
        """Boxes, in pixels of the teacher's view, and labels of an image of this step."""
        assert self._truth is not None, "give a simulation"
        truth = self._truth(self._ids[image])
        boxes = truth.boxes[truth.trainable] * self._unlabeled.box_scale(self._ids[image])
        return torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(truth.labels[truth.trainable])


class NoneWrong(Mended):
    """What the teacher said is told where an object is; a box of a class only where the object is of that class."""

    def _taught(self, weak: list[Tensor], seen: Any, pseudo: list[PseudoBoxes]) -> dict[str, Tensor]:
        return super()._taught(weak, seen, [self._kept(k, said) for k, said in enumerate(pseudo)])

    def _kept(self, image: int, said: PseudoBoxes) -> PseudoBoxes:
        true, labels = self._true(image)
        sure = _covered(said.boxes, true, said.labels, labels)
        drawn = _covered(said.reliable, true, said.reliable_labels, labels)
        return PseudoBoxes(
            said.proposals[_covered(said.proposals, true)],
            said.boxes[sure],
            said.labels[sure],
            said.scores[sure],
            said.reliable[drawn],
            said.reliable_labels[drawn],
        )


class NoneAsBackground(Mended):
    """What shows an object that the teacher missed is not taught at all, to the classifier or for the proposals."""

    def _taught(self, weak: list[Tensor], seen: Any, pseudo: list[PseudoBoxes]) -> dict[str, Tensor]:
        missed = []
        for image, said in enumerate(pseudo):
            true, _ = self._true(image)
            missed.append(true[~_covered(true, said.boxes)])

        class Judge:
            def classified_regions(self, boxes: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
                found = []
                for (said, reached), regions, objects in zip(
                    seen.classified_regions(boxes), boxes, missed, strict=True
                ):
                    silent = _covered(regions, objects, least=TOUCHED)
                    found.append((torch.where(silent[:, None], 0.0, said), reached))
                return found

        terms = super()._taught(weak, Judge(), pseudo)  # type: ignore[arg-type]
        return {name: term for name, term in terms.items() if name != "loss_objectness"}


class AllTrue(Mended):
    """Every true box and no other is told."""

    def _taught(self, weak: list[Tensor], seen: Any, pseudo: list[PseudoBoxes]) -> dict[str, Tensor]:
        told = []
        for image in range(len(pseudo)):
            boxes, labels = self._true(image)
            told.append(PseudoBoxes(boxes, boxes, labels, torch.ones(len(labels)), boxes, labels))
        return super()._taught(weak, seen, told)


def _covered(
    boxes: Tensor, others: Tensor, labels: Tensor | None = None, of_others: Tensor | None = None, least: float = MATCH
) -> Tensor:
    """Which boxes overlap another one, of the same class where classes are given."""
    if not len(boxes) or not len(others):
        return torch.zeros(len(boxes), dtype=torch.bool)
    overlap = torch.from_numpy(pairwise_iou(boxes.numpy(), others.numpy()))
    if labels is not None and of_others is not None:
        overlap = overlap * (labels[:, None] == of_others[None])
    return overlap.amax(dim=1) >= least


# name -> (recipe of `semi_supervised.py`, its lessons)
ARMS: dict[str, tuple[str, type[SemiSupervisedObjective]]] = {
    "supervised": ("supervised", SemiSupervisedObjective),
    "+ teacher": ("+ teacher", SemiSupervisedObjective),
    "none wrong": ("+ teacher", NoneWrong),
    "none as background": ("+ teacher", NoneAsBackground),
    "all true": ("+ teacher", AllTrue),
    "all true + GbR": ("+ GbR", AllTrue),
}


def told(job: Job) -> str:
    """One arm under one seed."""
    config, arm, seed, folder = job
    name, fitting.SemiSupervisedObjective = ARMS[arm]  # type: ignore[misc]
    return trained((config, name, seed, folder))


def main(path: Path, out: Path, workers: int) -> None:
    """Train what is not trained yet, and print the table."""
    config = load_config(path)
    finish(told, [(config, arm, seed, place(out, arm, seed)) for seed in SEEDS for arm in ARMS], workers)
    table(out, ARMS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 2)
