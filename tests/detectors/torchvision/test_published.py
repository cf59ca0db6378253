"""COCO weights: outside the class predictor, a detector computes what torchvision computes from the same file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from alloop.detectors.torchvision.catalogue import FCOS, FasterRCNN, FasterRCNNC4, MaskRCNN, RetinaNet
from alloop.errors import ConfigError

DETECTORS: Mapping[str, Any] = {
    "fcos_resnet50_fpn": FCOS(backbone="resnet50", weights="coco"),
    "retinanet_resnet50_fpn": RetinaNet(backbone="resnet50", weights="coco", anchor_size=32.0),
    "fasterrcnn_resnet50_fpn": FasterRCNN(backbone="resnet50", weights="coco", anchor_size=32.0),
    "maskrcnn_resnet50_fpn": MaskRCNN(backbone="resnet50", weights="coco", anchor_size=32.0),
}
CLASS_LAYERS = ("cls_logits", "cls_score", "bbox_pred", "mask_fcn_logits")
VARIANCE = 1e-3  # so small that an epsilon of 1e-5 shows


def random_weights(name: str) -> dict[str, Tensor]:
    """Return weights of torchvision's detector, with norms that keep the scale of what they norm."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=91)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(VARIANCE)  # type: ignore[union-attr,operator]
            nn.init.constant_(module.weight, VARIANCE**0.5)
    state: dict[str, Tensor] = model.state_dict()
    return state


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder that the torch hub keeps files in; what is written there is removed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    yield folder
    for file in folder.iterdir():
        file.unlink()


def published_file(folder: Path, name: str) -> Path:
    entry: Any = torchvision.models.get_model_weights(name)
    return folder / entry["COCO_V1"].url.rsplit("/", 1)[-1]


def both(folder: Path, name: str) -> tuple[Any, Any]:
    """Return our network and torchvision's own, from one file."""
    torch.save(random_weights(name), published_file(folder, name))
    ours = DETECTORS[name].build(3).module
    theirs: Any = torchvision.models.get_model(name, weights="COCO_V1")
    return ours.eval(), theirs.eval()


def outputs(model: Any) -> list[Tensor]:
    """Return what each part but the class predictor computes."""
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    batch, features = ImageList(images, [(64, 96)] * 2), model.backbone(images)
    levels = list(features.values())
    if hasattr(model, "head"):
        boxes = model.head.regression_head(levels)
        towers = [model.head.classification_head.conv(level) for level in levels]
        return [
            *levels,
            *(boxes if isinstance(boxes, tuple) else [boxes]),
            *towers,
            *model.anchor_generator(batch, levels),
        ]
    heads, (objectness, deltas) = model.roi_heads, model.rpn.head(levels)
    proposals = [*objectness, *deltas, *model.rpn.anchor_generator(batch, levels)]  # all that proposals are made of
    regions = [torch.tensor([[3.0, 4.0, 40.0, 50.0], [10.0, 0.0, 90.0, 60.0]])] * 2
    found = [*levels, *proposals, heads.box_head(heads.box_roi_pool(features, regions, batch.image_sizes))]
    if heads.has_mask():
        mask = heads.mask_head(heads.mask_roi_pool(features, regions, batch.image_sizes))
        found.append(heads.mask_predictor.conv5_mask(mask))
    return found


@pytest.mark.parametrize("name", DETECTORS)
@torch.no_grad()
def test_all_but_the_class_predictor_is_torchvisions(checkpoints: Path, name: str) -> None:
    ours, theirs = both(checkpoints, name)
    for mine, expected in zip(outputs(ours), outputs(theirs), strict=True):
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(mine / scale, expected / scale, atol=1e-5, rtol=0)
    published = theirs.state_dict()
    same = {key for key, value in ours.state_dict().items() if value.equal(published[key])}
    fresh = {key for key, value in published.items() if value.shape != ours.state_dict()[key].shape}
    assert all(key.rsplit(".", 1)[0].endswith(CLASS_LAYERS) for key in fresh)
    assert published.keys() == same | fresh
    assert fresh
    assert not same & fresh
    trained = {key for key, value in theirs.named_parameters() if value.requires_grad}
    assert {key for key, value in ours.named_parameters() if value.requires_grad} == trained


def test_names_of_older_files_are_understood(checkpoints: Path) -> None:
    name = "retinanet_resnet50_fpn"
    state = random_weights(name)
    older = {
        key.replace(".0.0.", ".0.").replace(".1.0.", ".1.") if "blocks" in key else key: value
        for key, value in state.items()
    }
    assert older.keys() != state.keys()
    torch.save(older, published_file(checkpoints, name))
    weights = DETECTORS[name].build(3).module.state_dict()
    key = "backbone.fpn.inner_blocks.1.0.weight"
    assert weights[key].equal(state[key])


@pytest.mark.parametrize(
    ("detector", "key", "expected", "found"),
    [
        (FCOS(backbone="resnet50", weights="coco", channels=128), "channels", "256", "128"),
        (FCOS(backbone="resnet50", weights="coco", tower_convs=2), "tower_convs", "4", "2"),
        (FCOS(backbone="resnet50", weights="coco", variant="isal"), "variant", "'torchvision'", "'isal'"),
        (RetinaNet(backbone="resnet50", weights="coco", anchor_size=16.0), "anchor_size", "32", "16.0"),
        (RetinaNet(backbone="tiny", weights="coco", anchor_size=32.0), "backbone", "'resnet50'", "'tiny'"),
        (FasterRCNN(backbone="mobilenet_v3_large", weights="coco"), "backbone", "'resnet50'", "'mobilenet_v3_large'"),
        (FasterRCNN(backbone="resnet50", weights="coco", head_width=64, anchor_size=32.0), "head_width", "1024", "64"),
        (MaskRCNN(backbone="resnet50", weights="coco", anchor_size=16.0), "anchor_size", "32", "16.0"),
    ],
)
def test_another_architecture_is_refused(detector: Any, key: str, expected: str, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"detector\.{key}: .* belong to {expected}, found {found}\."):
        detector.build(3)


def test_a_c4_detector_has_no_published_weights() -> None:
    with pytest.raises(ConfigError, match=r"detector\.weights: .*no COCO weights of a C4 detector"):
        FasterRCNNC4(backbone="resnet50", weights="coco").build(3)


@pytest.mark.parametrize("content", [b"", b"no weights", {"backbone.body.conv1.weight": torch.zeros(64, 3, 7, 7)}])
def test_a_file_of_something_else_is_refused(checkpoints: Path, content: Any) -> None:
    file = published_file(checkpoints, "fcos_resnet50_fpn")
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(ConfigError, match=r"detector\.weights: .*COCO weights of fcos_resnet50_fpn"):
        FCOS(backbone="resnet50", weights="coco").build(3)
