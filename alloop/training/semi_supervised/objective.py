"""A student that also learns from unlabeled images, taught by the average of its own weights.

Two published styles, and on top of either the three modules of CI-SSOD (Li et al., ICCV 2023), each off by default:

    Soft Teacher      Xu et al., ICCV 2021: pseudo-boxes by three criteria, one for each loss; regions that no
                      pseudo-box claims count as far as the teacher believes that they are background
    Unbiased Teacher  Liu et al., ICLR 2021: one hard threshold, focal loss, no box regression without labels
    GbR, GbT, CrS     `gradient_balance`, `class_thresholds`, `repeat_factors`

    loss = labeled loss + weight * unlabeled loss

Pseudo-labels live here alone: they never reach the ledger or the labeled pool.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from alloop.config.blocks import SemiSupervisedConfig
from alloop.detectors.protocol import (
    CachedFeatures,
    CachedRegions,
    Detector,
    PseudoBoxes,
    PseudoLabelDetector,
    RegionLoss,
    Target,
)
from alloop.training.batches import TrainingBatches, UnlabeledBatches
from alloop.training.repeat_factors import class_frequencies, pseudo_labeled_repeats
from alloop.training.semi_supervised.class_thresholds import class_thresholds, updated_confidence
from alloop.training.semi_supervised.gradient_balance import ClassWeights, focal_loss, gradient_matrix
from alloop.training.semi_supervised.pseudo_labels import INITIAL, believed, box_variance, right
from alloop.training.semi_supervised.views import mirrored, strong_views
from alloop.values import Annotations, ImageId

THRESHOLD = {"soft_teacher": 0.9, "unbiased_teacher": 0.7}
UNBIASED_FOCAL = 1.5  # exponent of the focal loss of Unbiased Teacher
CLASSIFICATION = ("loss_objectness", "loss_classifier", "classification")  # terms, by what torchvision calls them
LABELED, UNLABELED = 0, 1


class SemiSupervisedObjective:
    """The loss terms of each step, on labeled and on unlabeled images."""

    def __init__(
        self,
        detector: Detector,
        teacher: Detector,
        labeled: TrainingBatches,
        unlabeled: UnlabeledBatches,
        config: SemiSupervisedConfig,
        *,
        classes: int,
        steps: int,
        flip: float,
        device: torch.device,
        truth: Callable[[ImageId], Annotations] | None = None,
    ) -> None:
        """Fix everything that the steps depend on.

        Args:
            detector: the student.
            teacher: another of the same kind, whose weights `begin` replaces.
            labeled: batches with labels.
            unlabeled: batches without.
            config: style and modules.
            classes: number of classes.
            steps: of the whole training.
            flip: chance that the student sees an unlabeled image mirrored.
            device: where the running figures live.
            truth: what an unlabeled image really holds, in simulation: pseudo-labels are counted against it, and
                nothing else is done with it.
        """
        self._detector, self._labeled, self._unlabeled, self._config = detector, labeled, unlabeled, config
        self._teacher: Any = teacher
        self._steps, self._flip, self._truth, self._classes = steps, flip, truth, classes
        self._base = config.threshold or THRESHOLD[config.style]
        warm_up = round(2 * config.warm_up * steps)  # two matrices a step, one a branch
        self.balance = ClassWeights(classes, warm_up, solver=config.solver, running=config.momentum).to(device)
        self._confidence = torch.zeros(classes, device=device)
        self._seen = torch.zeros(classes, dtype=torch.int64, device=device)
        self._memory: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # row -> classes and residual scores
        self._counts = np.zeros((3, classes), dtype=np.int64)  # pseudo-boxes, right ones, boxes that are there
        self._shown = 0  # unlabeled images since the last record
        self.training_log: list[dict[str, Any]] = []

    def begin(self, averaged: Mapping[str, Tensor]) -> None:
        """The teacher's weights are these tensors from now on, whatever becomes of them."""
        self._teacher.module.load_state_dict(averaged, assign=True)
        self._teacher.module.requires_grad_(requires_grad=False).eval()

    def __call__(self, step: int) -> tuple[dict[str, Tensor], list[ImageId]]:
        """The loss terms of a step, split by image, and the ids of its images."""
        images, targets, ids = self._labeled(step)
        with self._classified(LABELED):
            terms = self._detector.losses(images, targets)
        if step < self._config.burn_in * self._steps:
            return terms, ids
        self._resample(step)
        weak, unlabeled_ids = self._unlabeled(step)
        seen = self._teacher.cached_features(weak)
        thresholds = self.thresholds(step)
        pseudo = self._believed(seen, thresholds)
        self._remember(unlabeled_ids, pseudo, thresholds)
        with self._classified(UNLABELED):
            taught = self._taught(weak, seen, pseudo)
        return {**terms, **{f"unlabeled_{k}": self._config.weight * v for k, v in taught.items()}}, ids + unlabeled_ids

    def _classified(self, branch: int) -> Any:
        """The loss by which regions are classified, where it is not the detector's own."""
        config, detector = self._config, self._detector
        if config.gradient_balance:
            return _learner(detector).region_loss_replaced(self.balanced(branch))
        if config.style == "unbiased_teacher" and hasattr(detector, "region_loss_replaced"):
            return _learner(detector).region_loss_replaced(_weighted_focal)
        return nullcontext()

    def balanced(self, branch: int) -> RegionLoss:
        """GbR: the focal loss times the weight of the region's class; each look also feeds the gradient matrix."""
        config, balance = self._config, self.balance
        strength, exponent = ((1.0, config.beta_labeled), (config.weight, config.beta_unlabeled))[branch]

        def loss(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
            balance.update(strength * gradient_matrix(logits.detach().float(), labels, weights, focal=config.focal))
            factor = balance.of_regions(labels, exponent, branch)
            return focal_loss(logits, labels, focal=config.focal) * (factor if weights is None else factor * weights)

        return loss

    def thresholds(self, step: int) -> Float[Tensor, " k"]:
        """The scores from which pseudo-boxes are classified; with GbT one for each class after its warm-up."""
        config = self._config
        if not config.class_thresholds or step < 1.5 * config.warm_up * self._steps:
            return torch.full_like(self._confidence, self._base)
        weights = self.balance.weights.detach()[:-1] if config.gradient_balance and self.balance.ready else None
        return class_thresholds(self._confidence, weights, self._base)

    @torch.no_grad()
    def _believed(self, seen: CachedFeatures, thresholds: Tensor) -> list[PseudoBoxes]:
        """What the student is told of each image; the classes' confidence is followed on the way."""
        config, found = self._config, seen.detections()
        scores, labels = (torch.cat([f[key] for f in found]) for key in ("scores", "labels"))
        self._confidence, self._seen = updated_confidence(
            self._confidence, self._seen, scores.float(), labels, config.momentum
        )
        variances: list[Tensor | None] = [None] * len(found)
        if config.style == "soft_teacher":
            tried = [f["scores"] > INITIAL for f in found]

            def refine(boxes: list[Tensor], labels: list[Tensor]) -> list[Tensor]:
                moved = [reached for _, reached in _regions(seen).classified_regions(boxes)]
                return [m[torch.arange(len(y), device=y.device), y] for m, y in zip(moved, labels, strict=True)]

            boxes, of = ([f[key][t] for f, t in zip(found, tried, strict=True)] for key in ("boxes", "labels"))
            variances = [*box_variance(refine, boxes, of, config.jitters, config.jitter_scale)]
        return [
            believed(f, variance, thresholds, self._base, config.variance)
            for f, variance in zip(found, variances, strict=True)
        ]

    def _taught(self, weak: list[Tensor], seen: CachedFeatures, pseudo: list[PseudoBoxes]) -> dict[str, Tensor]:
        """The student's losses on its own views under the teacher's boxes."""
        strong, flipped = strong_views(weak, self._flip, self._config.strength)
        widths = [int(image.shape[-1]) for image in weak]

        def across(boxes: Tensor, image: int) -> Tensor:
            """From the teacher's view to the student's or back."""
            return mirrored(boxes, widths[image]) if flipped[image] else boxes

        told = [
            p._replace(proposals=across(p.proposals, k), boxes=across(p.boxes, k), reliable=across(p.reliable, k))
            for k, p in enumerate(pseudo)
        ]
        if self._config.style == "soft_teacher":

            def background(regions: list[Tensor]) -> list[Tensor]:
                judged = _regions(seen).classified_regions([across(boxes, k) for k, boxes in enumerate(regions)])
                return [said[:, -1] for said, _ in judged]

            return _learner(self._detector).pseudo_label_losses(strong, told, background)
        terms = self._detector.losses(strong, [Target(boxes=p.boxes, labels=p.labels) for p in told])
        return {name: term for name, term in terms.items() if name in CLASSIFICATION}

    def _remember(self, image_ids: list[ImageId], pseudo: list[PseudoBoxes], thresholds: Tensor) -> None:
        """Keep the latest pseudo-labels of each image for CrS, and count them where the truth is known."""
        for image_id, boxes in zip(image_ids, pseudo, strict=True):
            labels = boxes.labels.cpu().numpy()
            if self._config.resampling:
                residual = (boxes.scores - thresholds[boxes.labels]).float().cpu().numpy()
                self._memory[self._unlabeled.row(image_id)] = labels, residual
            if self._truth is not None:
                drawn = boxes.boxes.float().cpu().numpy() / self._unlabeled.box_scale(image_id)
                self._counts += right(self._truth(image_id), drawn, labels, self._classes)
        self._shown += len(image_ids)

    def _resample(self, step: int) -> None:
        """CrS: from time to time, count the classes anew and show images of rare ones more often."""
        every = max(1, round(self._config.refresh * self._steps))
        if not self._config.resampling or step % every or not self._memory:
            return
        rows, known = list(self._memory), list(self._memory.values())
        labels, residuals = [of for of, _ in known], [q.astype(np.float64) for _, q in known]
        frequencies = class_frequencies([*self._labeled.labels, *labels], self._classes)
        repeats = np.ones(len(self._unlabeled.image_ids), dtype=np.int64)
        repeats[rows] = pseudo_labeled_repeats(
            labels, residuals, frequencies, self._config.resampling_constant, step / self._steps
        )
        self._unlabeled.set_repeats(repeats, step)

    def end_step(self, step: int) -> None:
        """After the student's update: one step of the class weights, and a record at the end of an epoch."""
        taught = step >= self._config.burn_in * self._steps
        if self._config.gradient_balance:
            self.balance.step(1.0 + self._config.weight * taught)
        if (step + 1) % self._labeled.steps_per_epoch == 0 or (step + 1 == self._steps and not self.training_log):
            self._record(step)

    def _record(self, step: int) -> None:
        """Class weights, thresholds and how right the pseudo-labels of this epoch were."""
        told: dict[str, Any] = {"step": step + 1, "unlabeled_images": self._shown}
        if self._config.gradient_balance:
            weights = self.balance.weights.detach()
            told |= {"class_weights": _rounded(weights), "negative_weights": int((weights < 0).sum())}
        told["thresholds"] = _rounded(self.thresholds(step))
        if self._config.resampling:
            told["mean_repeat"] = round(float(self._unlabeled.repeats.mean()), 4)
        if self._truth is not None:
            told |= dict(zip(("pseudo", "right", "true"), self._counts.tolist(), strict=True))
        self.training_log.append(told)
        self._counts[:], self._shown = 0, 0

    def state(self) -> dict[str, Tensor]:
        """Everything the next step depends on, and the records so far."""
        rows = np.array(list(self._memory), dtype=np.int64)
        sizes = np.array([len(labels) for labels, _ in self._memory.values()], dtype=np.int64)
        parts = list(zip(*self._memory.values(), strict=True)) or [(), ()]
        arrays = {
            "rows": rows,
            "sizes": sizes,
            "labels": np.concatenate([np.zeros(0, np.int64), *parts[0]]),
            "residuals": np.concatenate([np.zeros(0, np.float32), *parts[1]]),
            "repeats": self._unlabeled.repeats,
            "counts": self._counts,
            "since": np.array([self._unlabeled.since, self._shown]),
            "course": np.frombuffer(json.dumps(self.training_log).encode(), dtype=np.uint8),
        }
        figures = {f"balance.{k}": v for k, v in self.balance.state_dict().items()}
        return {
            **figures,
            **{k: torch.from_numpy(v.copy()) for k, v in arrays.items()},
            "confidence": self._confidence,
            "seen": self._seen,
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self.balance.load_state_dict(
            {k.removeprefix("balance."): v for k, v in state.items() if k.startswith("balance.")}
        )
        self._confidence, self._seen = (state[k].to(self._confidence.device) for k in ("confidence", "seen"))
        ends = state["sizes"].numpy().cumsum()[:-1]
        labels, residuals = (np.split(state[k].numpy(), ends) for k in ("labels", "residuals"))
        self._memory = dict(zip(state["rows"].tolist(), zip(labels, residuals, strict=False), strict=False))
        self._counts = state["counts"].numpy().copy()
        since, self._shown = state["since"].tolist()
        self._unlabeled.set_repeats(state["repeats"].numpy(), since)
        self.training_log = json.loads(state["course"].numpy().tobytes())


def _weighted_focal(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    found = focal_loss(logits, labels, focal=UNBIASED_FOCAL)
    return found if weights is None else found * weights


def _learner(detector: Detector) -> PseudoLabelDetector:
    """A wrapped detector passes on what it does not know, which no protocol check sees."""
    return cast("PseudoLabelDetector", detector)


def _regions(seen: CachedFeatures) -> CachedRegions:
    """Of a detector with two stages, which is what the styles that ask for regions are given."""
    return cast("CachedRegions", seen)


def _rounded(values: Tensor) -> list[float]:
    return [round(float(value), 4) for value in values]
