"""Classifiers of torchvision as backbones: they compute what the classifier computes, and their first stages stay."""

import re

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

from alloop.detectors.torchvision.backbones import build_backbone
from alloop.detectors.torchvision.classifiers import (
    STRIDES,
    build_classifier,
    classifier_names,
    freeze_norms,
    stages_of,
)
from alloop.detectors.torchvision.published import imagenet
from alloop.errors import ConfigError
from tests.support.detectors import make, scene

ONE_OF_EACH = ("convnext_tiny", "densenet121", "efficientnet_b0", "regnet_y_400mf", "shufflenet_v2_x0_5")
# RegNets compute their widths when they are built, so that they cannot be built without memory
CHEAP = [n for n in classifier_names() if not n.startswith("regnet_") or n.endswith("_400mf")]


def with_random_norms(model):
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def file_of(tmp_path, model):
    save_file({k: v.clone() for k, v in model.state_dict().items()}, tmp_path / "w.safetensors")
    return str(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", CHEAP)
def test_every_classifier_has_a_stage_at_each_stride(name):
    with torch.device("cpu" if name.startswith("regnet_") else "meta"):
        stages = stages_of(build_classifier(name))
    ends = [stages.last_at(stride) for stride in STRIDES]
    assert list(stages.modules).index(ends[-1]) == len(stages.modules) - 1, "the head of the classification is left out"
    assert [stage for group in stages.groups() for stage in group] == list(stages.modules.values())
    assert len(stages.groups()) == 5
    strides = list(stages.strides.values())
    assert strides == sorted(strides)


@pytest.mark.parametrize("name", ["swin_t", "squeezenet1_0"])
def test_a_classifier_of_another_make_is_refused(name):
    with pytest.raises(ValueError, match="expected stages"):
        stages_of(torchvision.models.get_model(name))


@pytest.mark.parametrize("two_stage", [False, True])
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_levels_have_the_strides_that_they_name(name, two_stage):
    pyramid = build_backbone(name, "none", 32, None, two_stage=two_stage)
    pyramid.module.eval()
    with torch.no_grad():
        features = pyramid.module(torch.zeros(1, 3, 128, 128))
    assert tuple(features) == pyramid.levels
    assert [128 // f.shape[-1] for f in features.values()] == list(pyramid.strides)
    assert pyramid.strides == ((4, 8, 16, 32, 64) if two_stage else (8, 16, 32, 64, 128))
    assert all(p.requires_grad for p in pyramid.module.parameters()), "nothing is frozen without pretrained weights"


@pytest.mark.parametrize("name", ONE_OF_EACH)
@torch.no_grad()
def test_with_its_weights_the_stages_return_what_the_classifier_computes(tmp_path, name):
    classifier = with_random_norms(torchvision.models.get_model(name))
    detector = make("faster_rcnn", name, weights=file_of(tmp_path, classifier))
    stages, seen = stages_of(classifier), {}
    classifier.eval()
    ends = [stages.last_at(stride) for stride in STRIDES]
    for end in ends:
        stages.modules[end].register_forward_hook(lambda _m, _i, out, end=end: seen.__setitem__(end, out.clone()))
    image = torch.rand(1, 3, 64, 96)
    classifier(image)
    detector.module.eval()
    for network in (detector, detector.scoring_copy()):
        levels = network.module.backbone.body(image)
        for level, end in zip(levels.values(), ends, strict=True):
            scale = float(seen[end].abs().max())
            torch.testing.assert_close(level / scale, seen[end] / scale, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_first_stages_stay_as_they_are_and_no_norm_is_trained(tmp_path, name):
    classifier = with_random_norms(torchvision.models.get_model(name))
    detector, (images, targets) = make("fcos", name, weights=file_of(tmp_path, classifier)), scene()
    stages, body = stages_of(classifier), detector.module.backbone.body
    still = [stage for stage, stride in stages.strides.items() if stride <= 4]
    assert list(body)[: detector.module.backbone.frozen] == still
    assert not any(p.requires_grad for stage in still for p in body[stage].parameters())
    assert all(p.requires_grad for stage in set(body) - set(still) for p in body[stage].parameters())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in body.modules())
    frozen = [m.eps for m in body.modules() if isinstance(m, FrozenBatchNorm2d)]
    own = [m.eps for s in body for m in stages.modules[s].modules() if isinstance(m, nn.BatchNorm2d)]
    assert frozen == own, "the epsilon is that of the classifier"
    assert not any(m.p for stage in still for m in body[stage].modules() if isinstance(m, StochasticDepth))
    detector.module.train()
    sum(term.sum() for term in detector.losses(images, targets).values()).backward()
    trained = [p for p in detector.module.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)


@torch.no_grad()
def test_a_frozen_norm_computes_what_the_norm_computed_with_whatever_epsilon():
    norms = with_random_norms(nn.Sequential(nn.BatchNorm2d(4, eps=0.5), nn.Sequential(nn.BatchNorm2d(4, eps=1e-3))))
    image = torch.rand(2, 4, 3, 3)
    expected = norms(image)
    freeze_norms(norms)
    assert not [m for m in norms.modules() if isinstance(m, nn.BatchNorm2d)]
    torch.testing.assert_close(norms(image), expected)


@pytest.mark.parametrize("name", ["densenet121", "efficientnet_b0", "convnext_tiny"])
@torch.no_grad()
def test_frozen_features_stand_for_the_image(tmp_path, name):
    """A branch that is dropped at random would make them another function of the image."""
    classifier = with_random_norms(torchvision.models.get_model(name))
    detector = make("fcos", name, weights=file_of(tmp_path, classifier))
    image = torch.rand(3, 64, 96)
    kept = detector.frozen_layers()(image)
    detector.module.train()
    body, x = detector.module.backbone.body, detector.module.transform([image])[0].tensors
    for stage in list(body)[: detector.module.backbone.frozen]:
        x = body[stage](x)
    torch.testing.assert_close(kept.maps[-1], x[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("stages", "first"), [(5, "0"), (4, "0"), (3, "2"), (1, "6"), (0, None)])
def test_the_number_of_trained_stages_counts_from_the_end(stages, first):
    detector = make("fcos", "convnext_tiny", weights="none", trainable_stages=stages)
    body = detector.module.backbone.body
    trained = [name for name in body if any(p.requires_grad for p in body[name].parameters())]
    assert (trained[0] if trained else None) == first


def test_names_of_layers_in_older_files_of_densenets_are_understood(tmp_path, monkeypatch):
    entry = torchvision.models.get_model_weights("densenet121")["IMAGENET1K_V1"]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    state = with_random_norms(torchvision.models.densenet121()).state_dict()
    older = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): value for name, value in state.items()}
    assert older.keys() != state.keys()
    torch.save(older, folder / entry.url.rsplit("/", 1)[-1])
    body = make("fcos", "densenet121", weights="imagenet").module.backbone.body
    assert body["denseblock4"].denselayer3.norm2.running_var.equal(
        state["features.denseblock4.denselayer3.norm2.running_var"]
    )
    older.pop("features.conv0.weight")
    torch.save(older, folder / entry.url.rsplit("/", 1)[-1])
    with pytest.raises(ConfigError, match=r"ImageNet weights of densenet121 lack features\.conv0\.weight"):
        make("fcos", "densenet121", weights="imagenet")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("efficientnet_b8", r"did you mean 'efficientnet_b\d', 'efficientnet_b\d'"),
        ("convnext", "'convnext_"),
        ("resnext50", "'resnext50_32x4d'"),
        ("swin_t", ""),
    ],
)
def test_an_unknown_name_lists_the_nearest_ones(name, words):
    with pytest.raises(ConfigError, match=rf"detector\.backbone: '{name}' is unknown.*{words}"):
        build_backbone(name, "none", 32, None, two_stage=False)


def test_a_classifier_without_these_weights_says_so():
    with pytest.raises(ConfigError, match="torchvision publishes no IMAGENET1K_V1 weights of regnet_y_128gf"):
        imagenet("regnet_y_128gf")
