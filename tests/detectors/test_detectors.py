"""Detectors: losses by image add up to torchvision's own, detections equal torchvision's own."""

import numpy as np
import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork

from alloop.detectors.protocol import Detector
from alloop.detectors.seeding import seeded
from alloop.detectors.torchvision.backbones import NAMES as BACKBONES
from alloop.detectors.torchvision.backbones import build_backbone, load_weights
from alloop.detectors.torchvision.catalogue import FasterRCNNC4
from alloop.errors import ConfigError
from alloop.query import Need
from alloop.values import Annotations
from tests.support.detectors import KINDS, NAMES, fitted, make, plugin

TWO_STAGE = ("faster_rcnn", "faster_rcnn_c4", "mask_rcnn")


def batch():
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.rand(3, 64, 96, generator=generator),
        torch.rand(3, 64, 64, generator=generator),
        torch.rand(3, 48, 96, generator=generator),
    ]
    boxes = [torch.tensor([[4.0, 4, 30, 30], [20, 20, 50, 60]]), torch.zeros(0, 4), torch.tensor([[10.0, 10, 40, 44]])]
    labels = [torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64), torch.tensor([0])]
    targets = [
        {"boxes": b, "labels": k, "masks": torch.ones(len(b), *image.shape[-2:], dtype=torch.uint8)}
        for b, k, image in zip(boxes, labels, images, strict=True)
    ]
    return images, targets


def plain(detector):
    """The same weights with torchvision's own classes put back."""
    module = detector.module
    if isinstance(module, FCOS):
        module.__class__, module.head.__class__ = FCOS, FCOSHead
        return 0
    if isinstance(module, RetinaNet):
        module.__class__, module.head.__class__ = RetinaNet, RetinaNetHead
        module.proposal_matcher.__class__ = Matcher
        return 0
    module.rpn.__class__, module.roi_heads.__class__ = RegionProposalNetwork, RoIHeads
    module.rpn.proposal_matcher.__class__ = module.roi_heads.proposal_matcher.__class__ = Matcher
    return 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v3_small"])
def test_losses_by_image_add_up_to_torchvisions_batch_loss(name, backbone):
    """Where all anchors and regions are sampled, since those drawn at random are others."""
    detector, (images, targets) = make(name, backbone), batch()
    if name in TWO_STAGE:
        for stage in (detector.module.rpn, detector.module.roi_heads):
            stage.fg_bg_sampler.batch_size_per_image = 10**6
    detector.module.train()
    for module in detector.module.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    with seeded(5):
        ours = detector.losses(images, targets)
    assert all(term.shape == (3,) for term in ours.values())
    first_label = plain(detector)
    with seeded(5):
        theirs = detector.module(images, [{**t, "labels": t["labels"] + first_label} for t in targets])
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key].sum(), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["fcos", "fcos_isal", "retinanet", "faster_rcnn"])
def test_losses_stay_in_float32_under_autocast(name):
    detector, (images, targets) = make(name), batch()
    detector.module.train()
    with seeded(5):
        exact = detector.losses(images, targets)
    with seeded(5), torch.autocast("cpu", torch.bfloat16):
        rounded = detector.losses(images, targets)
    assert all(term.dtype == torch.float32 for term in rounded.values())
    total, other = (float(sum(t.detach().sum() for t in terms.values())) for terms in (exact, rounded))
    assert other == pytest.approx(total, rel=0.05)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_flow_and_empty_batches_train(name):
    detector, (images, _) = make(name), batch()
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    targets = [{**nothing, "masks": torch.zeros(0, *image.shape[-2:], dtype=torch.uint8)} for image in images]
    detector.module.train()
    loss = sum(term.sum() for term in detector.losses(images, targets).values())
    assert torch.isfinite(loss)
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in detector.module.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_detections_are_torchvisions_with_their_posterior(name):
    detector, (images, _) = make(name), batch()
    if name == "retinanet":  # its prior keeps an untrained head below any threshold
        torch.nn.init.zeros_(detector.module.head.classification_head.cls_logits.bias)
    if name == "fcos":  # torchvision compares the threshold with the score, here it is compared with the class alone
        detector.module.score_thresh = 0.0
    detector.module.eval()
    ours = detector.detect(images)
    first_label = plain(detector)
    with torch.no_grad():
        theirs = detector.module(images)
    assert sum(len(found["boxes"]) for found in ours) > 10
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine["boxes"], other["boxes"])
        theirs_squared = other["scores"] ** 2 if name == "fcos" else other["scores"]  # they return the square root
        torch.testing.assert_close(mine["scores"], theirs_squared)
        assert torch.equal(mine["labels"], other["labels"] - first_label)
        assert mine["probabilities"].shape == (len(mine["boxes"]), 3)
        own = mine["probabilities"].gather(1, mine["labels"][:, None])[:, 0]
        if name in (*TWO_STAGE, "retinanet"):
            torch.testing.assert_close(own, mine["scores"])
        else:
            assert (own + 1e-6 >= mine["scores"]).all()
        if name == "mask_rcnn":
            assert torch.equal(mine["masks"], (other["masks"][:, 0] > 0.5).to(torch.uint8))


@pytest.mark.parametrize("name", KINDS)
def test_features_have_the_documented_shape_and_modes_come_back(name):
    detector, (images, targets) = make(name, "resnet18"), batch()
    detector.module.train()
    embedded = detector.embed(images)
    widths = {"fcos": (64, 32), "fcos_isal": (64, 32), "retinanet": (64, 32), "faster_rcnn_c4": (256, 512)}
    of_image, of_region = widths.get(name, (4 * 32, 32))
    assert embedded.shape == (3, of_image)
    regions = detector.region_features(images, [t["boxes"] for t in targets])
    assert [tuple(r.shape) for r in regions] == [(2, of_region), (0, of_region), (1, of_region)]
    detector.detect(images)
    assert detector.module.training
    assert isinstance(detector, Detector)
    assert (Need.MASKS in plugin(name).gives) == (name == "mask_rcnn")


@pytest.mark.parametrize("name", TWO_STAGE)
def test_classifier_outputs_are_what_the_classifier_says_of_the_given_boxes(name):
    detector, (images, targets) = make(name, "resnet18"), batch()
    boxes = [t["boxes"] for t in targets]
    found = detector.classifier_outputs(images, boxes)
    width = 512 if name == "faster_rcnn_c4" else 16
    assert [tuple(seen.shape) for seen, _ in found] == [(2, width), (0, width), (1, width)]
    seen, said = (torch.cat(part) for part in zip(*found, strict=True))
    with torch.no_grad():
        posterior = detector.module.roi_heads.box_predictor.cls_score(seen).softmax(dim=1)
    torch.testing.assert_close(said[:, -1], posterior[:, 0])
    torch.testing.assert_close(said[:, :-1], posterior[:, 1:])


@pytest.mark.parametrize("name", TWO_STAGE)
def test_images_without_a_proposal_have_no_detection(name, monkeypatch):
    detector, (images, _) = make(name, "resnet18"), batch()
    monkeypatch.setattr(detector.module.rpn, "proposals", lambda *_: [torch.zeros(0, 4)] * 3)
    assert [len(found["boxes"]) for found in detector.detect(images)] == [0, 0, 0]


def test_a_c4_detector_needs_a_resnet_and_pools_its_fourth_stage():
    detector = make("faster_rcnn_c4")
    assert detector.module.roi_heads.box_roi_pool.output_size == (14, 14)
    assert detector.module.backbone(torch.zeros(1, 3, 64, 96))["0"].shape == (1, 256, 4, 6)
    with pytest.raises(ConfigError, match="C4 detector is built on a ResNet"):
        FasterRCNNC4(backbone="tiny", weights="none").build(3)


@pytest.mark.parametrize("name", ["fcos", "fcos_isal"])
def test_embedding_of_fcos_is_the_pooled_last_tower_output(name):
    detector, (images, _) = make(name), batch()
    seen = {}
    head = detector.module.head
    for key, tower in (("cls", head.classification_head.conv), ("reg", head.regression_head.conv)):
        tower.register_forward_hook(lambda _m, _i, out, key=key: seen.__setitem__(key, out))
    embedded = detector.embed(images)
    expected = torch.cat([seen["cls"].mean(dim=(2, 3)), seen["reg"].mean(dim=(2, 3))], dim=1)
    torch.testing.assert_close(embedded, expected)


@pytest.mark.parametrize("name", ["fcos", "faster_rcnn"])
def test_neither_order_nor_neighbours_change_what_is_seen(name):
    detector = make(name)
    sizes = [(64, 64), (192, 128), (64, 64), (60, 90), (192, 128), (64, 64)]
    together = fitted(detector, sizes)
    features = together.embeddings([5, 4, 3, 2, 1, 0])[::-1]
    for i in range(6):
        alone = fitted(detector, sizes).embeddings([i])[0]
        assert np.allclose(alone, features[i], rtol=1e-4, atol=1e-6)
        a, b = together.detections([i])[0], fitted(detector, sizes).detections([i])[0]
        assert len(a) == len(b)
        assert np.allclose(a.boxes, b.boxes, atol=1e-2)


def test_boxes_come_back_in_pixels_of_the_image_as_displayed():
    found = fitted(make("fcos"), [(192, 128)]).detections([0])[0]
    assert found.boxes[:, 2].max() <= 192 + 1e-3
    assert found.boxes[:, 2].max() > 96


@pytest.mark.parametrize("name", KINDS)
def test_derivatives_are_repeatable_and_those_of_the_image_alone(name):
    detector = make(name)
    masks = (b"[[4,4,30,4,30,30,4,30]]", None)
    truth = {
        i: Annotations([[4, 4, 30, 30], [1, 1, 2, 2]], [0, 1], [False, True], [True, False], masks) for i in range(2)
    }
    direction = {n: np.ones(detector.module.get_parameter(n).shape, np.float32) for n in detector.last_layers}
    together = fitted(detector, [(64, 64), (64, 64)]).loss_slopes([0, 1], truth, direction)
    reversed_ = fitted(detector, [(64, 64), (64, 64)]).loss_slopes([1, 0], truth, direction)[::-1]
    alone = [fitted(detector, [(64, 64), (64, 64)]).loss_slopes([i], truth, direction)[0] for i in range(2)]
    assert np.array_equal(together, reversed_)
    assert np.allclose(together, alone, rtol=1e-4)
    assert (together != 0).all()


@pytest.mark.parametrize("two_stage", [False, True])
@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_returns_the_levels_and_strides_it_names(name, two_stage):
    pyramid = build_backbone(name, "none", 32, None, two_stage=two_stage)
    pyramid.module.eval()
    with torch.no_grad():
        features = pyramid.module(torch.zeros(1, 3, 128, 128))
    assert tuple(features) == pyramid.levels
    assert [128 // f.shape[-1] for f in features.values()] == list(pyramid.strides)
    assert all(f.shape[1] == 32 for f in features.values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "resnet19"}, "did you mean 'resnet"),
        ({"backbone": "tiny", "weights": "imagenet"}, "tiny backbone"),
        ({"backbone": "resnet18", "weights": "digits"}, "tiny backbone"),
        ({"backbone": "tiny", "weights": "/nowhere/x.safetensors"}, "x.safetensors"),
    ],
)
def test_wrong_weights_and_backbones_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        make("fcos", **changes)


def test_missing_imagenet_weights_offline_are_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(ConfigError, match=r"resnet18.*TORCH_HOME"):
        make("fcos", "resnet18", weights="imagenet")


def test_a_weights_file_of_another_model_names_the_tensor(tmp_path):
    from safetensors.torch import save_file

    detector = make("fcos")
    save_file({k: v.clone() for k, v in detector.module.state_dict().items()}, tmp_path / "w.safetensors")
    again = make("fcos")
    load_weights(again.module.backbone, tmp_path / "w.safetensors")  # backbone.* of a whole detector
    with pytest.raises(ConfigError, match=r"expected .* of shape"):
        load_weights(make("fcos", channels=64).module.backbone, tmp_path / "w.safetensors")


def test_imagenet_backbone_is_frozen_where_it_says(real_data):
    detector = make("fcos", "mobilenet_v2", weights="imagenet")
    trained = {n for n, p in detector.module.named_parameters() if p.requires_grad}
    frozen = {n for n, p in detector.module.named_parameters() if not p.requires_grad}
    assert any("backbone.body.0" in n for n in frozen)
    assert any("backbone.body.17" in n for n in trained)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in detector.module.backbone.modules())
