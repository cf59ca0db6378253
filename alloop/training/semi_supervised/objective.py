"""A student that also learns from unlabeled images, which are labeled by the average of its own weights.

On top of either style of `teacher` there are the three modules of CI-SSOD (Li et al., ICCV 2023), each off by default:

    GbR, GbT, CrS     `gradient_balance`, `class_thresholds`, `resampling`

    loss = labeled loss + weight * unlabeled loss

Pseudo-labels exist here alone: they never reach the ledger or the labeled pool.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from alloop.config.training import TrainingConfig
from alloop.detectors.loss_prediction import training_losses
from alloop.detectors.protocol import CachedFeatures, Detector, LastLayerDetector, Target
from alloop.detectors.region_protocol import PseudoBoxes, PseudoLabelDetector, RegionLoss
from alloop.errors import TrainingError
from alloop.training.batches import TrainingBatches, UnlabeledBatches
from alloop.training.semi_supervised.epoch_log import EpochLog, rounded
from alloop.training.semi_supervised.gradient_balance import ClassWeights, focal_loss, gradient_matrix
from alloop.training.semi_supervised.pseudo_labels import match_counts
from alloop.training.semi_supervised.resampling import Resampling
from alloop.training.semi_supervised.teacher import Teacher, regions_of
from alloop.training.semi_supervised.views import mirrored, strong_views
from alloop.values import Annotations, ImageId

LABELED, UNLABELED = 0, 1  # the two branches of the loss


class SemiSupervisedObjective:
    """The loss of a student on labeled and on unlabeled images.

    Attributes:
        teacher: labels the unlabeled images.
        balance: the class weights of GbR.
        resampling: the repeats of CrS.
        log: one record per epoch.
    """

    def __init__(
        self,
        detector: Detector,
        teacher: Detector,
        labeled: TrainingBatches,
        unlabeled: UnlabeledBatches,
        config: TrainingConfig,
        *,
        classes: int,
        steps: int,
        device: torch.device,
        classification_terms: frozenset[str],
        truth: Callable[[ImageId], Annotations] | None = None,
    ) -> None:
        """Fix everything that the steps depend on.

        Args:
            detector: the student.
            teacher: another detector of the same kind, whose weights `begin` replaces.
            labeled: batches with labels.
            unlabeled: batches without.
            config: of the training; it has a block `semi_supervised`.
            classes: number of classes.
            steps: of the whole training.
            device: of the running means.
            classification_terms: names of those of the detector's loss terms that classify.
            truth: returns the hidden annotations of an unlabeled image in simulation. Pseudo-labels are counted
                against them, and nothing else is done with them.

        Raises:
            TrainingError: the config has no such block, or the detector cannot label images.
        """
        settings = config.semi_supervised
        if settings is None or not isinstance(teacher, LastLayerDetector):
            msg = "training.semi_supervised: expected this block and a detector with `cached_features`"
            raise TrainingError(msg)
        self._detector = detector
        self._labeled = labeled
        self._unlabeled = unlabeled
        self._config = settings
        self._flip = config.flip
        self._steps = steps
        self._classes = classes
        self._classification_terms = classification_terms
        self._truth = truth
        self.teacher = Teacher(teacher, settings, classes=classes, device=device)
        warm_up = round(2 * settings.warm_up * steps)  # each step updates the matrix twice, once per branch
        self.balance = ClassWeights(classes, warm_up, solver=settings.solver, running=settings.momentum).to(device)
        images = len(unlabeled.image_ids)
        self.resampling = Resampling(settings, images=images, classes=classes, steps=steps)
        self.log = EpochLog(classes)

    def begin(self, averaged: Mapping[str, Tensor]) -> None:
        """Give the teacher the averaged weights, which the training updates in place."""
        self.teacher.follow(averaged)

    def __call__(self, step: int) -> tuple[dict[str, Tensor], list[ImageId]]:
        """Return the loss terms of a step, one number per image each, and the ids of its images.

        Raises:
            TrainingError: the detector has no loss terms of the names that it declares as classification terms.
        """
        images, targets, image_ids = self._labeled(step)
        with self._region_loss(LABELED):
            terms = training_losses(self._detector, images, targets)
        self._check_terms(terms)
        if step < self._config.burn_in * self._steps:
            return terms, image_ids
        unlabeled_terms, unlabeled_ids = self._unlabeled_step(step)
        weighted = {f"unlabeled_{name}": self._config.weight * term for name, term in unlabeled_terms.items()}
        return {**terms, **weighted}, image_ids + unlabeled_ids

    def _unlabeled_step(self, step: int) -> tuple[dict[str, Tensor], list[ImageId]]:
        """Return the unlabeled loss terms of a step, not weighted, and the ids of its unlabeled images."""
        self._resample(step)
        images, image_ids = self._unlabeled(step)
        features = self.teacher.features(self._unlabeled.unchanged(image_ids, images))
        thresholds = self.thresholds(step)
        pseudo = self.teacher.pseudo_boxes(features, thresholds)
        self._record_pseudo_boxes(image_ids, pseudo, thresholds)
        with self._region_loss(UNLABELED):
            return self._unlabeled_losses(images, features, pseudo), image_ids

    def _resample(self, step: int) -> None:
        """Show images with rare pseudo-labels more often from now on, where CrS is on and its turn has come."""
        if self._config.resampling and self.resampling.due(step):
            self._unlabeled.set_repeats(self.resampling.repeats(self._labeled.labels, step), step)

    def _check_terms(self, terms: Mapping[str, Tensor]) -> None:
        """Raise TrainingError unless the declared classification terms are among the detector's loss terms."""
        if not self._classification_terms or not self._classification_terms <= terms.keys():
            msg = (
                f"training.semi_supervised: expected loss terms named {sorted(self._classification_terms)}, which "
                f"the detector declares as `classification_terms`, found {sorted(terms)}; correct the declaration"
            )
            raise TrainingError(msg)

    def _region_loss(self, branch: int) -> AbstractContextManager[None]:
        """Replace, inside a `with`, the loss by which regions are classified, where GbR or the style has another."""
        detector = self._detector
        focal = self.teacher.style.focal
        if not isinstance(detector, PseudoLabelDetector):
            return nullcontext()
        if self._config.gradient_balance:
            return detector.region_loss_replaced(self.balanced(branch))
        return nullcontext() if focal is None else detector.region_loss_replaced(_focal_region_loss(focal))

    def balanced(self, branch: int) -> RegionLoss:
        """Return the region loss of GbR, the focal loss times the weight of the region's class.

        Each call of it also updates the gradient matrix.
        """
        config, balance = self._config, self.balance
        strength, exponent = 1.0, config.beta_labeled
        if branch == UNLABELED:
            strength, exponent = config.weight, config.beta_unlabeled

        def loss(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
            balance.update(strength * gradient_matrix(logits.detach().float(), labels, weights, focal=config.focal))
            class_weights = balance.region_weights(labels, exponent, branch)
            factors = class_weights if weights is None else class_weights * weights
            return focal_loss(logits, labels, focal=config.focal) * factors

        return loss

    def thresholds(self, step: int) -> Float[Tensor, " k"]:
        """Return the score above which a detection is a pseudo-box; with GbT one per class after its warm-up."""
        config = self._config
        warm_up = 1.5 * config.warm_up if config.threshold_warm_up is None else config.threshold_warm_up
        if not config.class_thresholds or step < warm_up * self._steps:
            return self.teacher.base_thresholds()
        weights = self.balance.weights.detach()[:-1] if config.gradient_balance and self.balance.ready else None
        return self.teacher.class_thresholds(weights)

    def _unlabeled_losses(
        self, images: list[Tensor], features: CachedFeatures, pseudo: list[PseudoBoxes]
    ) -> dict[str, Tensor]:
        """Return the student's loss terms on its own views.

        Args:
            images: as the teacher sees them.
            features: of the teacher.
            pseudo: pseudo-boxes of each image, in pixels of the teacher's view.
        """
        views, flipped = strong_views(images, self._flip, self._config.strength)
        widths = [int(image.shape[-1]) for image in images]

        def mapped(boxes: Tensor, row: int) -> Tensor:
            """Map boxes from one view of an image to the other."""
            return mirrored(boxes, widths[row]) if flipped[row] else boxes

        def background(regions: list[Tensor]) -> list[Tensor]:
            return self._background(features, [mapped(boxes, row) for row, boxes in enumerate(regions)])

        in_view = [
            p._replace(proposals=mapped(p.proposals, k), boxes=mapped(p.boxes, k), reliable=mapped(p.reliable, k))
            for k, p in enumerate(pseudo)
        ]
        if self.teacher.style.uses_regions and isinstance(self._detector, PseudoLabelDetector):
            return self._detector.pseudo_label_losses(views, in_view, background)
        terms = self._detector.losses(views, [Target(boxes=p.boxes, labels=p.labels) for p in in_view])
        return {name: term for name, term in terms.items() if name in self._classification_terms}

    def _background(self, features: CachedFeatures, regions: list[Tensor]) -> list[Tensor]:
        """Return the teacher's probability of the background for regions of each image, in its own view."""
        return [probabilities[:, -1] for probabilities, _ in regions_of(features).classified_regions(regions)]

    def _record_pseudo_boxes(self, image_ids: list[ImageId], pseudo: list[PseudoBoxes], thresholds: Tensor) -> None:
        """Keep the pseudo-boxes of each image for CrS, and count the correct ones where the truth is known."""
        for image_id, boxes in zip(image_ids, pseudo, strict=True):
            if self._config.resampling:
                self.resampling.record(self._unlabeled.row(image_id), boxes, thresholds)
            if self._truth is not None:
                displayed = boxes.boxes.float().cpu().numpy() / self._unlabeled.box_scale(image_id)
                labels = boxes.labels.cpu().numpy()
                self.log.counts += match_counts(self._truth(image_id), displayed, labels, self._classes)
        self.log.unlabeled_images += len(image_ids)

    def end_step(self, step: int) -> None:
        """Take one step of the class weights, and append a record at the end of an epoch."""
        if self._config.gradient_balance:
            uses_teacher = step >= self._config.burn_in * self._steps
            self.balance.step(1.0 + self._config.weight * uses_teacher)
        last = step + 1 == self._steps
        if (step + 1) % self._labeled.steps_per_epoch == 0 or (last and not self.log.records):
            self.log.end_epoch(step, self._epoch_values(step), truth_known=self._truth is not None)

    def _epoch_values(self, step: int) -> dict[str, Any]:
        """Return the entries of a record that depend on the modules in use."""
        values: dict[str, Any] = {}
        if self._config.gradient_balance:
            weights = self.balance.weights.detach()
            values |= {"class_weights": rounded(weights), "negative_weights": int((weights < 0).sum())}
        values["thresholds"] = rounded(self.thresholds(step))
        if self._config.resampling:
            values["mean_repeat"] = round(float(self._unlabeled.repeats.mean()), 4)
        return values

    def state(self) -> dict[str, Tensor]:
        """Return everything the next step depends on, and the records so far."""
        return {
            **{f"balance.{name}": tensor for name, tensor in self.balance.state_dict().items()},
            **self.resampling.state(),
            "repeats": torch.from_numpy(self._unlabeled.repeats.copy()),
            "since": torch.tensor([self._unlabeled.since, self.log.unlabeled_images]),
            "counts": torch.from_numpy(self.log.counts.copy()),
            "course": self.log.to_tensor(),  # the names on disk, which checkpoints of earlier versions also have
            "confidence": self.teacher.confidence,
            "seen": self.teacher.seen,
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that `state` returned."""
        prefix = "balance."
        device = self.teacher.confidence.device
        self.balance.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self.resampling.restore(state)
        since, unlabeled_images = state["since"].tolist()
        self._unlabeled.set_repeats(state["repeats"].numpy(), since)
        self.log.restore(state["course"], state["counts"], unlabeled_images)
        self.teacher.confidence = state["confidence"].to(device)
        self.teacher.seen = state["seen"].to(device)


def _focal_region_loss(exponent: float) -> RegionLoss:
    """Return the focal loss as a region loss."""

    def loss(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        losses = focal_loss(logits, labels, focal=exponent)
        return losses if weights is None else losses * weights

    return loss
