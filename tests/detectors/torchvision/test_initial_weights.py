"""Weights from a file: told apart by their tensors, loaded exactly, and refused where they do not fit."""

import re

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from alloop.detectors.loss_prediction import attach_module
from alloop.detectors.torchvision.backbones import SHIPPED
from alloop.errors import ConfigError
from alloop.strategy import LossPrediction
from alloop.training.weights import weights_of
from tests.support.detectors import KINDS, make, plugin

CLASS_LAYERS = {
    "fcos": {"head.classification_head.cls_logits"},
    "fcos_isal": {"head.classification_head.cls_logits"},
    "retinanet": {"head.classification_head.cls_logits"},
    "faster_rcnn": {"roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"},
}
CLASS_LAYERS["faster_rcnn_c4"] = CLASS_LAYERS["faster_rcnn"]
CLASS_LAYERS["mask_rcnn"] = CLASS_LAYERS["faster_rcnn"] | {"roi_heads.mask_predictor.mask_fcn_logits"}


@pytest.fixture
def trained():
    """Return a function that gives a detector other weights than any new one has."""

    def changed(detector):
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for tensor in detector.module.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        return detector

    return changed


def written(tmp_path, tensors, name="w.safetensors"):
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, tmp_path / name)
    return str(tmp_path / name)


def state(detector):
    return {k: v for k, v in detector.module.state_dict().items() if "num_batches_tracked" not in k}


def parts(tensors, prefix):
    return {key: value for key, value in tensors.items() if key.startswith(prefix)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_of_a_run_comes_back_whole(tmp_path, trained, kind):
    before = trained(make(kind))
    file = tmp_path / "model.safetensors"
    file.write_bytes(weights_of(before.module))
    after = make(kind, weights=str(file))
    assert state(before).keys() == state(after).keys()
    assert all(value.equal(state(before)[name]) for name, value in state(after).items())
    loaded = after.loaded_weights
    assert (loaded.kind, loaded.loaded, loaded.fresh, loaded.unused) == ("a whole detector", len(state(after)), (), ())
    assert loaded.classes, "nobody but the user knows whether the classes are the same"
    norms = [m for m in after.module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not norms, "a pretrained backbone has frozen norms"


@pytest.mark.parametrize("kind", KINDS)
def test_with_other_classes_their_layers_alone_stay_fresh(tmp_path, trained, kind):
    before = trained(make(kind))
    file = written(tmp_path, before.module.state_dict())
    after, fresh = make(kind, classes=5, weights=file), make(kind, classes=5)
    expected = {name: name.rpartition(".")[0] in CLASS_LAYERS[kind] for name in state(after)}
    assert set(after.loaded_weights.fresh) == CLASS_LAYERS[kind]
    for name, stays in expected.items():
        assert state(after)[name].equal(state(fresh if stays else before)[name]), name
    assert not after.loaded_weights.classes
    assert str(after.loaded_weights).endswith(", ".join(after.loaded_weights.fresh))


@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v3_small"])
def test_a_backbone_cut_out_of_a_detector_serves_another_detector(tmp_path, trained, backbone):
    before = trained(make("fcos", backbone))
    cut = parts(before.module.state_dict(), "backbone.")
    after, fresh = make("retinanet", backbone, weights=written(tmp_path, cut)), make("retinanet", backbone)
    assert after.loaded_weights.kind == "a backbone with its pyramid"
    assert after.loaded_weights.loaded == len(parts(state(after), "backbone."))
    assert all(name.startswith("head.") for name in after.loaded_weights.fresh)
    for name, value in state(after).items():
        assert value.equal(state(before if name.startswith("backbone.") else fresh)[name]), name


def test_a_pyramid_that_is_not_in_the_file_starts_fresh_and_a_body_must_be_there(tmp_path, trained):
    before = state(trained(make("fcos", "mobilenet_v3_small")))
    body = parts(before, "backbone.body.")
    after = make("fcos", "mobilenet_v3_small", weights=written(tmp_path, body))
    assert after.loaded_weights.loaded == len(body)
    assert "backbone.fpn.inner_blocks.0.0" in after.loaded_weights.fresh
    missing = body.popitem()[0]
    with pytest.raises(ConfigError, match=re.escape(missing)):
        make("fcos", "mobilenet_v3_small", weights=written(tmp_path, body))


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("outputs", [1000, 7, None])
@pytest.mark.parametrize("kind", ["fcos", "faster_rcnn_c4"])
def test_a_classifier_is_a_backbone_with_whatever_classes(tmp_path, prefix, outputs, kind):
    torch.manual_seed(3)
    classifier = torchvision.models.resnet18(num_classes=outputs or 1000).state_dict()
    kept = {prefix + k: v for k, v in classifier.items() if outputs or not k.startswith("fc.")}
    detector = make(kind, "resnet18", weights=written(tmp_path, kept))
    first = "backbone.body.conv1.weight" if kind == "fcos" else "backbone.body.0.weight"
    assert state(detector)[first].equal(classifier["conv1.weight"])
    last = "backbone.body.layer4.1.conv2.weight" if kind == "fcos" else "roi_heads.box_head.stage.1.conv2.weight"
    assert state(detector)[last].equal(classifier["layer4.1.conv2.weight"])
    loaded = detector.loaded_weights
    fresh = ["backbone.fpn", "head.classification_head", "head.regression_head"]
    assert list(loaded.fresh) == (fresh if kind == "fcos" else ["rpn.head", "roi_heads.box_predictor"])
    assert loaded.unused == (tuple(f"{prefix}fc.{x}" for x in ("bias", "weight")) if outputs == 7 else ())


def test_what_a_network_does_not_need_is_named_and_left_out(tmp_path):
    shipped = load_file(SHIPPED)
    detector = make("fcos", weights=written(tmp_path, shipped | {"other": torch.zeros(2)}), channels=64)
    assert detector.loaded_weights.unused == ("other",)
    assert "not used from the file: other" in str(detector.loaded_weights)
    assert state(detector)["backbone.lateral.0.weight"].equal(shipped["lateral.0.weight"])
    assert make("fcos", weights="digits", channels=64).loaded_weights is None


def test_a_module_that_predicts_losses_is_left_out(tmp_path):
    before = make("fcos")
    attach_module(before, LossPrediction())
    after = make("fcos", weights=written(tmp_path, before.module.state_dict()))
    assert all(name.startswith("loss_prediction.") for name in after.loaded_weights.unused)
    assert after.loaded_weights.unused


def test_names_of_older_files_are_understood(tmp_path):
    before = state(make("fcos", "mobilenet_v3_small"))
    older = {re.sub(r"(blocks\.\d)\.0\.", r"\1.", name): value for name, value in before.items()}
    assert older.keys() != before.keys()
    after = make("fcos", "mobilenet_v3_small", weights=written(tmp_path, older))
    assert all(value.equal(before[name]) for name, value in state(after).items())


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (
            "fcos",
            {"channels": 64},
            r"shapes: .* backbone\.lateral\.0\.weight \(32, 32, 1, 1\) where .* \(64, 32",
        ),
        ("fcos", {"tower_convs": 2}, r"another detector than this; 8 tensors of this detector are not in it \(head\."),
        (
            "fcos",
            {"backbone": "resnet18"},
            r"another detector than this; \d+ tensors .*; \d+ of its tensors have no pl",
        ),
        ("retinanet", {}, r"other shapes: head\.regression_head\.bbox_reg\.bias \(4,\) where .* \(36,\)"),
        ("fcos_isal", {}, r"another detector than this; \d+ tensors .*; \d+ of its tensors have no place"),
        ("faster_rcnn", {}, r"another detector than this; \d+ tensors of this detector are not in it \(rpn\."),
    ],
)
def test_a_detector_that_fits_in_part_is_refused_and_what_differs_is_named(tmp_path, kind, changes, words):
    file = written(tmp_path, make("fcos").module.state_dict())
    with pytest.raises(ConfigError, match=rf"detector\.weights: {re.escape(file)}: .*{words}"):
        make(kind, **{"weights": file, **changes})


def test_a_file_with_more_layers_than_the_detector_is_refused(tmp_path):
    file = written(tmp_path, make("fcos", tower_convs=2).module.state_dict())
    with pytest.raises(ConfigError, match=r"another detector than this; 8 of its tensors have no place \(head\."):
        make("fcos", weights=file)


def test_a_tensor_of_a_class_layer_with_another_width_is_no_other_number_of_classes(tmp_path):
    tensors = make("fcos").module.state_dict()
    name = "head.classification_head.cls_logits.weight"
    with pytest.raises(ConfigError, match=rf"other shapes: {name} \(3, 16, 3, 3\)"):
        make("fcos", weights=written(tmp_path, tensors | {name: torch.zeros(3, 16, 3, 3)}))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("whole", [True, False])
def test_a_number_that_is_not_finite_is_refused(tmp_path, number, whole):
    tensors = dict(make("fcos").module.state_dict()) if whole else dict(load_file(SHIPPED))
    name = max(tensors)
    tensors[name] = torch.full_like(tensors[name], number)
    with pytest.raises(ConfigError, match=rf"detector\.weights: .*w\.safetensors: .*not finite in {name}"):
        make("fcos", channels=32 if whole else 64, weights=written(tmp_path, tensors))


def test_a_file_of_which_nothing_fits_is_refused(tmp_path):
    file = written(tmp_path, {"a.weight": torch.zeros(3), "b": torch.zeros(1)})
    words = rf"detector\.weights: {re.escape(file)}: .*Nothing in it fits; it has a\.weight, b"
    with pytest.raises(ConfigError, match=words):
        make("fcos", weights=file)
    with pytest.raises(ConfigError, match="it holds no tensor"):
        make("fcos", weights=written(tmp_path, {}))


def test_a_misspelled_name_is_no_file():
    with pytest.raises(ConfigError, match=r"detector\.weights: 'imagnet' is unknown \(did you mean 'imagenet'\?\)"):
        make("fcos", weights="imagnet")


def test_a_file_draws_as_many_random_numbers_as_none(tmp_path):
    """So the fresh layers of a detector do not depend on whether a file gave it the others."""
    file = written(tmp_path, make("fcos").module.state_dict())
    after = []
    for weights in ("none", file):
        torch.manual_seed(0)
        plugin("fcos", weights=weights).build(3)
        after.append(torch.rand(1))
    assert after[0].equal(after[1])
