"""A training step asks a GPU as often for a large batch as for a small one.

On the CPU nothing waits, so the operations are counted which would wait for a GPU: those that read numbers or whose
result is as long as the numbers say, and copies from the program to the device.
"""

from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork

from alloop.detectors.region_protocol import PseudoBoxes
from alloop.detectors.torchvision import proposal_network, region_pooling
from alloop.detectors.torchvision.suppression import best_together
from tests.support.detectors import NAMES, make

WAITING = {
    *("_local_scalar_dense", "equal", "nonzero", "masked_select", "bincount", "lift_fresh", "nms"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive"),
}
READING = {torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy}


class Operations(TorchDispatchMode):
    """Counts the operations inside torch that wait for a GPU, by name."""

    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        filled = by_mask and name != "index" and args[2].numel() == 1  # torch fills without asking how many there are
        repeated = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name in WAITING or repeated or (by_mask and not filled):
            self.waits[name] += 1
        return func(*args, **(kwargs or {}))


class Reads(TorchFunctionMode):
    """Counts the methods that read a whole tensor."""

    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in READING:
            self.waits[func.__name__] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def as_on_a_gpu():
    """Choose what is chosen on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(region_pooling, "LARGEST_MAP", 0)
        patch.setattr(proposal_network, "best_of_levels", best_together)
        yield


def scene(images):
    generator = torch.Generator().manual_seed(0)
    targets = []
    for image in range(images):
        corner = torch.rand(1 + image % 3, 2, generator=generator) * 40
        boxes = torch.cat([corner, corner + 12 + torch.rand(len(corner), 2, generator=generator) * 10], dim=1)
        masks = torch.ones(len(boxes), 64, 96, dtype=torch.uint8)
        targets.append({"boxes": boxes, "labels": torch.arange(len(boxes)), "masks": masks})
    return [torch.rand(3, 64, 96, generator=generator) for _ in range(images)], targets


def waits_of(losses):
    with Operations() as operations, Reads() as reads:
        torch.stack([term.sum() for term in losses().values()]).sum().backward()
    return operations.waits + reads.waits


def in_training(name, images, *, posteriors=False):
    detector, (pictures, targets) = make(name), scene(images)
    for target in targets:
        if posteriors:
            target["posteriors"] = torch.full((len(target["boxes"]), 3), 0.3)
    detector.module.train()
    return waits_of(lambda: detector.losses(pictures, targets))


@pytest.mark.parametrize("posteriors", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_larger_batch_waits_no_more_often(name, posteriors):
    with as_on_a_gpu():
        few, many = (in_training(name, images, posteriors=posteriors) for images in (2, 6))
    for waits in (few, many):
        if name in ("fcos", "retinanet"):  # they make one-hot vectors and fill with numbers, where a GPU does not wait
            del waits["_local_scalar_dense"], waits["lift_fresh"]
    assert few == many
    assert 0 < sum(few.values()) < 30


def test_pseudo_labels_wait_no_more_often_for_a_larger_batch():
    def waits(images):
        detector, (pictures, targets) = make("faster_rcnn"), scene(images)
        boxes, labels = ([target[key] for target in targets] for key in ("boxes", "labels"))
        pseudo = [PseudoBoxes(b, b, k, torch.ones(len(b)), b, k) for b, k in zip(boxes, labels, strict=True)]
        detector.module.train()
        ones = lambda regions: [torch.ones(len(own)) for own in regions]  # noqa: E731
        return waits_of(lambda: detector.pseudo_label_losses(pictures, pseudo, ones))

    with as_on_a_gpu():
        assert waits(2) == waits(6)


def test_torchvisions_own_code_waits_for_every_image():
    def waits(images):
        detector, (pictures, targets) = make("mask_rcnn"), scene(images)
        module = detector.module.train()
        module.rpn.__class__, module.roi_heads.__class__ = RegionProposalNetwork, RoIHeads
        module.rpn.proposal_matcher.__class__ = module.roi_heads.proposal_matcher.__class__ = Matcher
        objects = [{**target, "labels": target["labels"] + 1} for target in targets]
        return waits_of(lambda: module(pictures, objects))

    with as_on_a_gpu():
        assert sum(waits(6).values()) >= sum(waits(2).values()) + 4 * 10
