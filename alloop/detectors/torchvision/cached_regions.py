"""A batch that a detector of two stages has seen once, up to its last layers (`protocol.CachedFeatures`)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import clip_boxes_to_image

from alloop.detectors.protocol import GRAPH_TENSORS, LossOfWeights, Target
from alloop.detectors.seeding import seeded
from alloop.detectors.torchvision.parts import LossSums, batch_of, evaluating, one_based, per_image, with_weight
from alloop.detectors.torchvision.region_losses import Regions

# the weights that influence differentiates, with the scales of ISAL's released code for Faster R-CNN
OBJECTNESS, PROPOSAL = "rpn.head.cls_logits.weight", "rpn.head.bbox_pred.weight"
CLASSES, BOXES = "roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.bbox_pred.weight"
MASKS = "roi_heads.mask_predictor.mask_fcn_logits.weight"  # not in ISAL; the last layer of the third task
LAST_LAYERS = {OBJECTNESS: 1000.0, PROPOSAL: 1000.0, CLASSES: 5000.0, BOXES: 1000.0, MASKS: 1000.0}


class CachedRegionFeatures:
    """A batch up to the last layers: the pyramid, and what the proposal network has made of each level."""

    def __init__(self, model: Any, images: list[Tensor]) -> None:
        """See the images once."""
        self._model, self._originals = model, [tuple(image.shape[-2:]) for image in images]
        with evaluating(model):
            batch, self.features = batch_of(model, images)
            self._sizes: list[tuple[int, int]] = batch.image_sizes
            maps = list(self.features.values())
            self._hidden = [model.rpn.head.conv(level) for level in maps]
            self._anchors: list[Tensor] = model.rpn.anchor_generator(batch, maps)

    @property
    def graph_bytes(self) -> int:
        """Memory of the pyramid, of what both stages make of it, and of a graph on the anchors' outputs."""
        anchors, heads = 4 * 5 * sum(map(len, self._anchors)), self._model.roi_heads
        regions = 4 * int(heads.fg_bg_sampler.batch_size_per_image) * sum(heads.box_predictor.cls_score.weight.shape)
        maps = sum(int(level.nbytes) for level in (*self.features.values(), *self._hidden))
        total: int = maps + 2 * regions * len(self._sizes) + GRAPH_TENSORS * anchors
        return total

    def _first_stage(self, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, list[int]]:
        """Objectness and deltas of all anchors, and how many anchors each level has."""
        head = self._model.rpn.head
        scores = [with_weight(head.cls_logits, weights[OBJECTNESS], level) for level in self._hidden]
        deltas = [with_weight(head.bbox_pred, weights[PROPOSAL], level) for level in self._hidden]
        counts = [level[0].numel() for level in scores]
        return *concat_box_prediction_layers(scores, deltas), counts

    def _proposals(self) -> list[Tensor]:
        rpn = self._model.rpn
        objectness, deltas, counts = self._first_stage(last_weights(self._model))
        boxes = rpn.box_coder.decode(deltas, self._anchors).view(len(self._anchors), -1, 4)
        proposals: list[Tensor] = rpn.filter_proposals(boxes, objectness, self._sizes, counts)[0]
        return proposals

    def detections(self) -> list[dict[str, Tensor]]:
        """Detections after non-maximum suppression; masks are uint8 at image size."""
        with evaluating(self._model):
            found = self._model.roi_heads.detections(self.features, self._proposals(), self._sizes)
            found = self._model.transform.postprocess(found, self._sizes, self._originals)
        for result in found:
            result["labels"] = result["labels"] - 1
            if "masks" in result:
                result["masks"] = (result["masks"][:, 0] > 0.5).to(torch.uint8)
        result_: list[dict[str, Tensor]] = found
        return result_

    def losses(self, targets: Sequence[Target], seeds: Sequence[int]) -> LossOfWeights:
        """The loss of each image alone, as a function of the last layers' weights.

        Proposals are made with the weights as they are: torchvision lets no gradient through them.
        """
        rpn, heads, told = self._model.rpn, self._model.roi_heads, one_based(targets)
        with evaluating(self._model):
            with training_proposals(rpn):
                proposals = self._proposals()
            anchored, sampled = [], []
            for image, seed in enumerate(seeds):
                with seeded(seed):
                    anchored.append(rpn.anchored(self._anchors[image], told[image]))
                    sampled.append(heads.select_training_samples([proposals[image]], [told[image]]))
            goals = type(anchored[0])(*(torch.cat(part) for part in zip(*anchored, strict=True)))
            regions = Regions(*([item[0] for item in part] for part in _by_part(sampled)))
            vectors = heads.box_head(heads.box_roi_pool(self.features, regions.boxes, self._sizes))
            masks = self._mask_features(regions) if heads.has_mask() else None

        def loss(weights: Mapping[str, Tensor]) -> Tensor:
            objectness, deltas, _ = self._first_stage(weights)
            logits = with_weight(heads.box_predictor.cls_score, weights[CLASSES], vectors)
            reached = with_weight(heads.box_predictor.bbox_pred, weights[BOXES], vectors)
            first = rpn.shares(objectness, deltas, goals)
            terms: dict[str, LossSums] = {"loss_objectness": first[0], "loss_rpn_box_reg": first[1]}
            terms |= heads.box_shares(logits, reached, regions, told)
            if masks is not None:
                drawn = with_weight(heads.mask_predictor.mask_fcn_logits, weights[MASKS], masks)
                terms["loss_mask"] = heads.mask_shares(drawn, regions, told)
            return per_image(terms)

        return loss

    def classified_regions(self, boxes: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Of each box: its probabilities, background last, and where each class moves it, inside the image."""
        heads, counts = self._model.roi_heads, [len(b) for b in boxes]
        with evaluating(self._model):
            vectors = heads.box_head(heads.box_roi_pool(self.features, boxes, self._sizes))
            logits, deltas = heads.box_predictor(vectors)
            said = torch.split(torch.roll(logits.softmax(dim=1), -1, dims=1), counts)
            moved = torch.split(heads.box_coder.decode(deltas, boxes).reshape(*logits.shape, 4)[:, 1:], counts)
        inside = [clip_boxes_to_image(m, size) for m, size in zip(moved, self._sizes, strict=True)]
        return list(zip(said, inside, strict=True))

    def _mask_features(self, regions: Regions) -> Tensor:
        """What the last mask layer sees of the positive regions."""
        heads = self._model.roi_heads
        x: Tensor = heads.mask_head(heads.mask_roi_pool(self.features, regions.positive_boxes, self._sizes))
        for name, layer in heads.mask_predictor.named_children():
            if name != "mask_fcn_logits":
                x = layer(x)
        return x


def _by_part(sampled: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """`select_training_samples` of single images: boxes, matched rows, labels, deltas, each a list over images."""
    return list(zip(*sampled, strict=True))


@contextmanager
def training_proposals(rpn: Any) -> Iterator[None]:
    """Keep as many proposals as in training."""
    rpn.training = True
    try:
        yield
    finally:
        rpn.training = False


def last_weights(model: nn.Module) -> dict[str, Tensor]:
    """The last layers' weights of a two-stage model; only Mask R-CNN has masks."""
    return {name: weight.detach() for name, weight in model.named_parameters() if name in LAST_LAYERS}
