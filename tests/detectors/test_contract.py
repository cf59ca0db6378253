"""The detector contract: every built-in detector keeps it, and each check alone refuses one broken detector."""

import dataclasses
from typing import ClassVar

import pytest
import torch

from alloop.detectors.region_protocol import PseudoLabelDetector
from alloop.query import Need
from alloop.testing import detector_checks
from tests.support.detectors import KINDS, NAMES, plugin

CHECKS = {check.__name__: check for check in detector_checks()}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_built_in_detectors_keep_the_contract(name, check):
    check(plugin(name))


class Network:
    """The network of another detector, which a subclass breaks."""

    def __init__(self, inner):
        self._inner, self.module = inner, inner.module
        self.levels, self.last_layers = inner.levels, inner.last_layers

    def losses(self, images, targets):
        return self._inner.losses(images, targets)

    def detect(self, images):
        return self._inner.detect(images)

    def embed(self, images):
        return self._inner.embed(images)

    def region_features(self, images, boxes):
        return self._inner.region_features(images, boxes)

    def classifier_outputs(self, images, boxes):
        return self._inner.classifier_outputs(images, boxes)

    def mask_outputs(self, images, targets):
        return self._inner.mask_outputs(images, targets)

    def cached_features(self, images):
        return self._inner.cached_features(images)


class Scalars(Network):
    def losses(self, images, targets):
        return {name: term.sum() for name, term in super().losses(images, targets).items()}


class Detached(Network):
    def losses(self, images, targets):
        return {name: term.detach() for name, term in super().losses(images, targets).items()}


class LabelsFromOne(Network):
    def detect(self, images):
        return [{**result, "labels": result["labels"] + 1} for result in super().detect(images)]


class Evaluating(Network):
    def detect(self, images):
        self.module.eval()
        return super().detect(images)


class WithGradient(Network):
    def embed(self, images):
        return super().embed(images).requires_grad_()


class Centred(Network):
    def embed(self, images):
        vectors = super().embed(images)
        return vectors - vectors.mean(dim=0)


class Joined(Network):
    def region_features(self, images, boxes):
        return [torch.cat(super().region_features(images, boxes))] * len(images)


class WithoutBackground(Network):
    def classifier_outputs(self, images, boxes):
        return [(features, logits[:, :-1]) for features, logits in super().classifier_outputs(images, boxes)]


class OneGrid(Network):
    def mask_outputs(self, images, targets):
        return [(logits[:, :1], truth) for logits, truth in super().mask_outputs(images, targets)]


class Cached:
    def __init__(self, inner):
        self._inner, self.graph_bytes = inner, inner.graph_bytes

    def detections(self):
        return self._inner.detections()

    def losses(self, targets, seeds):
        return self._inner.losses(targets, seeds)


class Mirrored(Cached):
    def detections(self):
        return [{**result, "boxes": result["boxes"].flip(0)} for result in super().detections()]


class Wavering(Cached):
    def losses(self, targets, seeds):
        loss = super().losses(targets, seeds)
        return lambda weights: loss(weights) * torch.rand(len(targets))


class CachedMirrored(Network):
    def cached_features(self, images):
        return Mirrored(super().cached_features(images))


class CachedWavering(Network):
    def cached_features(self, images):
        return Wavering(super().cached_features(images))


class Unseeded(Network):
    def __init__(self, inner):
        super().__init__(inner)
        generator = torch.Generator()
        generator.seed()
        with torch.no_grad():
            parameter = next(self.module.parameters())
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


@dataclasses.dataclass(frozen=True)
class Broken:
    """A detector plug-in around a built-in one, whose network is broken."""

    kind: str = "mask_rcnn"
    network: str = "Network"
    short_side: int = 64
    long_side: int = 96

    gives: ClassVar = plugin("mask_rcnn").gives
    classification_terms: ClassVar = frozenset({"loss_classifier"})
    classifies_regions: ClassVar = False

    def build(self, classes):
        inner = plugin(self.kind).build(classes)
        return globals()[self.network](inner) if self.network else inner


class Doubling(Broken):
    def __post_init__(self):
        object.__setattr__(self, "long_side", 2 * self.long_side)


class Promising(Broken):
    gives = Broken.gives | {Need.REFERENCE}


class Misnamed(Broken):
    classification_terms = frozenset({"loss_class"})


class BackgroundLast(Network):
    """Its layer keeps the background first, and it says another row."""

    classification_layer, background_row = "roi_heads.box_predictor.cls_score", 3

    def region_loss_replaced(self, loss):
        return self._inner.region_loss_replaced(loss)

    def read_logits_as_sigmoids(self):
        self._inner.read_logits_as_sigmoids()


class Balancing(Broken):
    balances_classes: ClassVar = True


BROKEN = {
    "check_parameters": (Doubling(), "the same plug-in from its plain parameters"),
    "check_capabilities": (Promising(), "is no need that a detector can serve"),
    "check_same_seed_same_weights": (Broken(network="Unseeded"), "the same seed gave other weights"),
    "check_losses": (Broken(network="Scalars"), "expected one number per image"),
    "check_gradients": (Broken(network="Detached"), "depend on the weights"),
    "check_classification_terms": (Misnamed(), "'loss_class' is not among the losses"),
    "check_class_balance": (Balancing(network="BackgroundLast"), "background_row: a certain background left"),
    "check_detections": (Broken(network="LabelsFromOne"), "class indices from 0"),
    "check_modes": (Broken(network="Evaluating"), "another mode"),
    "check_embeddings": (Broken(network="WithGradient"), "without gradient"),
    "check_neighbours": (Broken(network="Centred"), "a neighbour changed"),
    "check_region_features": (Broken(network="Joined"), "one vector per box"),
    "check_classifier_outputs": (Broken(network="WithoutBackground"), "expected probabilities of shape"),
    "check_masks": (Broken(network="OneGrid"), "mask_outputs: expected"),
    "check_cached_detections": (Broken(network="CachedMirrored"), "the detections of `detect`"),
    "check_last_layers": (Broken(network="CachedWavering"), "sampling to be fixed"),
}


def test_every_check_is_proven():
    assert BROKEN.keys() == CHECKS.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_a_broken_detector_is_refused_by_its_check_alone(name):
    broken, words = BROKEN[name]
    with pytest.raises(AssertionError, match=words):
        CHECKS[name](broken)
    for other, check in CHECKS.items():
        if other != name:
            check(broken)


def test_a_detector_that_only_wraps_another_keeps_the_contract():
    for check in CHECKS.values():
        check(Broken())


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"gives": frozenset({Need.EMBEDDINGS})}, "Need.DETECTIONS, which every detector serves"),
        ({"kind": "faster_rcnn", "gives": Broken.gives}, "gives masks: expected the network to be a MaskDetector"),
        ({"kind": "fcos", "gives": plugin("fcos").gives, "classifies_regions": True}, "expected a PseudoLabelDetector"),
    ],
)
def test_what_is_declared_is_implemented(attributes, words):
    kind = attributes.get("kind", "mask_rcnn")
    cls = type("Declared", (Broken,), {key: value for key, value in attributes.items() if key != "kind"})
    with pytest.raises(AssertionError, match=words):
        CHECKS["check_capabilities"](cls(kind=kind, network=""))


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({}, "expected the network to be a BalancedDetector"),
        ({"classification_layer": "roi_heads.box_head"}, "classification_layer: expected a linear layer"),
        ({"classification_layer": "roi_heads.box_predictor.bbox_pred"}, "classification_layer: expected 4 rows"),
    ],
)
def test_class_balance_that_is_declared_is_implemented(monkeypatch, attributes, words):
    base = type("Wrong", (BackgroundLast,), {"background_row": 0, **attributes}) if attributes else Network
    monkeypatch.setitem(globals(), "Wrong", base)
    with pytest.raises(AssertionError, match=words):
        CHECKS["check_class_balance"](Balancing(network="Wrong"))


def test_built_in_two_stage_detectors_can_have_their_classes_balanced():
    for name in NAMES:
        declares = getattr(plugin(name), "balances_classes", False)
        assert declares == (name in ("faster_rcnn", "faster_rcnn_c4", "mask_rcnn"))


def test_built_in_two_stage_detectors_can_be_trained_region_by_region():
    for name in NAMES:
        declares = getattr(plugin(name), "classifies_regions", False)
        assert declares == (name in ("faster_rcnn", "faster_rcnn_c4"))
        assert not declares or isinstance(plugin(name).build(3), PseudoLabelDetector)
