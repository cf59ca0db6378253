"""The features of a batch in a two-stage detector, computed once (`protocol.CachedRegions`)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import clip_boxes_to_image

from alloop.detectors.protocol import Image, LossOfWeights, Target
from alloop.detectors.seeding import seeded
from alloop.detectors.torchvision.features import GRAPH_TENSORS, batch_of, evaluating, one_based, with_weight
from alloop.detectors.torchvision.loss_sums import LossSums, per_image
from alloop.detectors.torchvision.proposal_network import AnchorTargets
from alloop.detectors.torchvision.region_detections import predicted_regions, region_detections
from alloop.detectors.torchvision.region_heads import Regions
from alloop.detectors.torchvision.sampling import Truth, random_keys

# the weights that influence differentiates, with the scales of ISAL's released code for Faster R-CNN
OBJECTNESS, PROPOSAL = "rpn.head.cls_logits.weight", "rpn.head.bbox_pred.weight"
CLASSES, BOXES = "roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.bbox_pred.weight"
MASKS = "roi_heads.mask_predictor.mask_fcn_logits.weight"  # not in ISAL; the last layer of the third task
LAST_LAYERS = {OBJECTNESS: 1000.0, PROPOSAL: 1000.0, CLASSES: 5000.0, BOXES: 1000.0, MASKS: 1000.0}


def last_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the last layers' weights of a two-stage model; only Mask R-CNN has masks."""
    return {name: weight.detach() for name, weight in model.named_parameters() if name in LAST_LAYERS}


class CachedRegionFeatures:
    """The pyramid of a batch, and the hidden features of the proposal network on each level."""

    def __init__(self, model: Any, images: list[Image]) -> None:
        """Compute the features."""
        self._model, self._original_sizes = model, [tuple(image.shape[-2:]) for image in images]
        with evaluating(model):
            batch, self.features = batch_of(model, images)
            self._sizes: list[tuple[int, int]] = batch.image_sizes
            maps = list(self.features.values())
            self._hidden = [model.rpn.head.conv(level) for level in maps]
            self._anchors: Tensor = model.rpn.anchor_generator(batch, maps)[0]  # those of all images are the same

    @property
    def graph_bytes(self) -> int:
        """Memory of the pyramid, of the features of both stages, and of a graph on the anchors' outputs."""
        anchors, heads = 4 * 5 * len(self._anchors) * len(self._sizes), self._model.roi_heads
        regions = 4 * int(heads.fg_bg_sampler.batch_size_per_image) * sum(heads.box_predictor.cls_score.weight.shape)
        maps = sum(int(level.nbytes) for level in (*self.features.values(), *self._hidden))
        total: int = maps + 2 * regions * len(self._sizes) + GRAPH_TENSORS * anchors
        return total

    def _first_stage(self, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, list[int]]:
        """Return objectness and deltas of all anchors, and the number of anchors on each level."""
        head = self._model.rpn.head
        scores = [with_weight(head.cls_logits, weights[OBJECTNESS], level) for level in self._hidden]
        deltas = [with_weight(head.bbox_pred, weights[PROPOSAL], level) for level in self._hidden]
        counts = [level[0].numel() for level in scores]
        return *concat_box_prediction_layers(scores, deltas), counts

    def _proposals(self) -> list[Tensor]:
        rpn = self._model.rpn
        objectness, deltas, counts = self._first_stage(last_weights(self._model))
        proposals: list[Tensor] = rpn.proposals(self._anchors, objectness, deltas, self._sizes, counts)
        return proposals

    def detections(self) -> list[dict[str, Tensor]]:
        """Return the detections of each image after non-maximum suppression; masks are uint8 at image size."""
        with evaluating(self._model):
            detections = region_detections(self._model.roi_heads, self.features, self._proposals(), self._sizes)
            results: list[dict[str, Tensor]] = self._model.transform.postprocess(
                detections, self._sizes, self._original_sizes
            )
        for result in results:
            result["labels"] = result["labels"] - 1
            if "masks" in result:
                result["masks"] = (result["masks"][:, 0] > 0.5).to(torch.uint8)
        return results

    def losses(self, targets: Sequence[Target], seeds: Sequence[int]) -> LossOfWeights:
        """Return the loss of each image alone, as a function of the last layers' weights.

        Proposals are made with the present weights: torchvision lets no gradient through them.
        """
        rpn, heads, truth = self._model.rpn, self._model.roi_heads, Truth.of(one_based(targets))
        with evaluating(self._model):
            anchor_targets, regions = self._sampled(truth, seeds)
            vectors = heads.box_head(heads.box_roi_pool(self.features, regions.by_image, self._sizes))
            mask_features = self._mask_features(regions) if heads.has_mask() else None

        def loss(weights: Mapping[str, Tensor]) -> Tensor:
            objectness, anchor_deltas, _ = self._first_stage(weights)
            logits = with_weight(heads.box_predictor.cls_score, weights[CLASSES], vectors)
            deltas = with_weight(heads.box_predictor.bbox_pred, weights[BOXES], vectors)
            terms: dict[str, LossSums] = rpn.loss_sums(objectness, anchor_deltas, anchor_targets)
            terms |= heads.box_loss_sums(logits, deltas, regions, truth)
            if mask_features is not None:
                masks = with_weight(heads.mask_predictor.mask_fcn_logits, weights[MASKS], mask_features)
                terms["loss_mask"] = heads.mask_loss_sums(masks, regions, truth)
            return per_image(terms)

        return loss

    def _sampled(self, truth: Truth, seeds: Sequence[int]) -> tuple[AnchorTargets, Regions]:
        """Match and sample the anchors and the regions of each image under its seed."""
        rpn, heads = self._model.rpn, self._model.roi_heads
        with _training_proposals(rpn):
            proposals = self._proposals()
        keys: list[list[Tensor]] = []
        for seed, found, boxes in zip(seeds, proposals, truth.counts, strict=True):
            with seeded(seed):
                keys.append(random_keys([len(self._anchors), len(found) + boxes], found.device))
        of_anchors, of_regions = zip(*keys, strict=True)
        return rpn.anchor_targets(self._anchors, truth, of_anchors), heads.regions(proposals, truth, of_regions)

    def classified_regions(self, boxes: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return for each image class probabilities, background last, and boxes refined by class, clipped to it."""
        heads, counts = self._model.roi_heads, [len(b) for b in boxes]
        with evaluating(self._model):
            vectors = heads.box_head(heads.box_roi_pool(self.features, boxes, self._sizes))
            logits, deltas = predicted_regions(heads, vectors)
            # torchvision keeps the background first
            probabilities = torch.split(torch.roll(heads.reading.posterior(logits), -1, dims=1), counts)
            decoded = heads.box_coder.decode(deltas, boxes).reshape(*logits.shape, 4)
            refined = torch.split(decoded[:, 1:], counts)
        clipped = [clip_boxes_to_image(r, size) for r, size in zip(refined, self._sizes, strict=True)]
        return list(zip(probabilities, clipped, strict=True))

    def _mask_features(self, regions: Regions) -> Tensor:
        """Return the input of the last mask layer for the positive regions."""
        heads = self._model.roi_heads
        x: Tensor = heads.mask_head(heads.mask_roi_pool(self.features, regions.positive_by_image, self._sizes))
        for name, layer in heads.mask_predictor.named_children():
            if name != "mask_fcn_logits":
                x = layer(x)
        return x


@contextmanager
def _training_proposals(rpn: Any) -> Iterator[None]:
    """Keep as many proposals as in training."""
    rpn.training = True
    try:
        yield
    finally:
        rpn.training = False
