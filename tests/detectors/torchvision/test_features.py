"""Images become a batch as torchvision makes it, and detections of regions leave out boxes without extent."""

from types import SimpleNamespace

import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from alloop.detectors.torchvision.features import MEAN, STD, NormalizeOnly
from alloop.detectors.torchvision.region_detections import _detections
from alloop.detectors.torchvision.region_logits import SOFTMAX


def test_a_batch_holds_what_torchvision_s_transform_makes_of_the_images():
    images = [torch.rand(3, height, width) for height, width in ((64, 64), (40, 64), (64, 33))]
    theirs = GeneralizedRCNNTransform(min_size=0, max_size=0, image_mean=list(MEAN), image_std=list(STD))
    theirs.resize = lambda image, target=None: (image, target)
    expected, _ = theirs(list(images))
    batch, _ = NormalizeOnly()(images)
    assert batch.image_sizes == expected.image_sizes == [(64, 64), (40, 64), (64, 33)]
    assert torch.equal(batch.tensors, expected.tensors)
    alone, _ = NormalizeOnly()(images[1:2])
    assert torch.equal(alone.tensors[0], batch.tensors[1])


def test_regions_keep_their_row_and_boxes_outside_of_the_image_are_left_out():
    heads = SimpleNamespace(score_thresh=0.1, nms_thresh=0.5, detections_per_img=10, reading=SOFTMAX)
    proposals = [torch.tensor([[0.0, 0, 9, 9], [1, 1, 20, 20]]), torch.tensor([[2.0, 2, 30, 30]])]
    inside, outside, thin = [4.0, 4, 20, 20], [50.0, 4, 60, 20], [4.0, 4, 4.005, 20]
    boxes = torch.tensor([[inside, inside, outside], [inside, thin, inside], [inside, inside, thin]])
    posterior = torch.tensor([[0.1, 0.6, 0.3], [0.1, 0.5, 0.4], [0.2, 0.75, 0.05]])
    first, second = _detections(heads, boxes, posterior.log(), proposals, [(32, 48), (32, 48)])
    # of the first image, class 1 keeps region 0 (0.6), its thin box is left out; class 2 keeps region 1 (0.4)
    assert first["labels"].tolist() == [1, 2]
    assert torch.equal(first["proposals"], proposals[0])
    assert torch.allclose(first["probabilities"], posterior[:2, 1:])
    assert second["labels"].tolist() == [1]
    assert torch.equal(second["proposals"], proposals[1])
    assert all(torch.equal(box, torch.tensor(inside)) for box in (*first["boxes"], *second["boxes"]))
