"""Contract checks for detectors, published so that users run them on their own.

    @pytest.mark.parametrize("check", detector_checks(), ids=lambda check: check.__name__)
    def test_contract(check):
        check(MyDetector())

Each check takes a detector plug-in, builds its network for three classes where it needs one, and raises AssertionError
with what was expected and what was found. Images are 64 pixels high and 64 or 96 wide.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import Any

from alloop.detectors.plugin import BalancedPlugin, DetectorPlugin, PseudoLabelPlugin
from alloop.plugins import make_plugin, plain_parameters
from alloop.query import Need

CLASSES = 3
DetectorCheck = Callable[[DetectorPlugin], None]


def check_parameters(plugin: DetectorPlugin) -> None:
    """Refuse a plug-in whose parameters cannot be written into a config and read again, or that cannot be pickled."""
    cls = type(plugin)
    again = make_plugin("detector", cls, cls.__name__, plain_parameters(plugin))
    assert again == plugin, f"expected the same plug-in from its plain parameters, found {again}"
    copy = pickle.loads(pickle.dumps(plugin))  # noqa: S301  it was pickled one line above
    assert copy == plugin, f"expected an equal copy from pickle, found {copy}"


def check_capabilities(plugin: DetectorPlugin) -> None:
    """Refuse a detector that declares what its network does not implement, or a need that is not its to give."""
    from alloop.detectors.protocol import CAPABILITIES  # noqa: PLC0415  imports torch
    from alloop.detectors.region_protocol import PseudoLabelDetector  # noqa: PLC0415

    assert Need.DETECTIONS in plugin.gives, "expected `gives` to hold Need.DETECTIONS, which every detector serves"
    network = _network(plugin)
    for need in plugin.gives:
        assert need in CAPABILITIES, f"gives: {need!r} is no need that a detector can serve"
        protocol = CAPABILITIES[need]
        assert isinstance(network, protocol), f"gives {need}: expected the network to be a {protocol.__name__}"
    if isinstance(plugin, PseudoLabelPlugin) and plugin.classifies_regions:
        assert isinstance(network, PseudoLabelDetector), "classifies_regions: expected a PseudoLabelDetector"


def check_same_seed_same_weights(plugin: DetectorPlugin) -> None:
    """Refuse a detector whose initial weights depend on anything but torch's seed."""
    import torch  # noqa: PLC0415  checks of strategies do without it

    first, second = (_network(plugin).module.state_dict() for _ in range(2))
    assert first.keys() == second.keys(), "expected the same weights from every build"
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), f"{name}: the same seed gave other weights"


def check_losses(plugin: DetectorPlugin) -> None:
    """Refuse loss terms that are not one finite number per image, also for an image without a box."""
    import torch  # noqa: PLC0415

    network, (images, targets) = _network(plugin), _batch()
    network.module.train()
    for name, term in network.losses(images, targets).items():
        assert term.shape == (len(images),), f"{name}: expected one number per image, found shape {tuple(term.shape)}"
        assert torch.isfinite(term).all(), f"{name}: expected finite numbers, found {term.tolist()}"


def check_gradients(plugin: DetectorPlugin) -> None:
    """Refuse losses from which no gradient reaches the weights."""
    network, (images, targets) = _network(plugin), _batch()
    network.module.train()
    total: Any = sum(term.sum() for term in network.losses(images, targets).values())
    assert total.requires_grad, "expected losses that depend on the weights"
    total.backward()
    assert any(p.grad is not None for p in network.module.parameters()), "no gradient reached the module"


def check_classification_terms(plugin: DetectorPlugin) -> None:
    """Refuse declared classification terms that are not among the losses: training on pseudo-labels would skip them."""
    if not isinstance(plugin, PseudoLabelPlugin):
        return
    network, (images, targets) = _network(plugin), _batch()
    network.module.train()
    names = network.losses(images, targets).keys()
    missing = sorted(plugin.classification_terms - names)
    assert not missing, f"classification_terms: {missing[0]!r} is not among the losses, which are {sorted(names)}"


def check_class_balance(plugin: DetectorPlugin) -> None:
    """Refuse a detector that declares `balances_classes` without the layer, the background's row and the sigmoids."""
    if not isinstance(plugin, BalancedPlugin) or not plugin.balances_classes:
        return
    from torch import nn  # noqa: PLC0415

    from alloop.detectors.region_protocol import BalancedDetector  # noqa: PLC0415

    network, (images, _) = _network(plugin), _batch()
    assert isinstance(network, BalancedDetector), "balances_classes: expected the network to be a BalancedDetector"
    layer = network.module.get_submodule(network.classification_layer)
    assert isinstance(layer, nn.Linear), f"classification_layer: expected a linear layer, found {layer}"
    assert layer.bias is not None, "classification_layer: expected a layer with a bias"
    assert layer.out_features == CLASSES + 1, f"classification_layer: expected {CLASSES + 1} rows, found {layer}"
    layer.bias.data[network.background_row] += 50
    for as_sigmoids in (False, True):
        if as_sigmoids:
            network.read_logits_as_sigmoids()
        found = sum(len(result["scores"]) for result in network.detect(images))
        assert not found, f"background_row: a certain background left {found} detections"


def check_detections(plugin: DetectorPlugin) -> None:
    """Refuse detections outside the image, out of order, with labels that do not start at 0, or without posterior."""
    network, (images, _) = _network(plugin), _batch()
    for image, result in zip(images, network.detect(images), strict=True):
        height, width = image.shape[-2:]
        boxes, scores, labels = result["boxes"], result["scores"], result["labels"]
        assert len(boxes) == len(scores) == len(labels), "expected as many boxes as scores and labels"
        shape = tuple(result["probabilities"].shape)
        assert shape == (len(boxes), CLASSES), f"probabilities: expected {len(boxes)} x {CLASSES}, found {shape}"
        assert (boxes >= 0).all(), "a box reaches out of the image"
        assert (boxes[:, 0::2] <= width).all(), "a box reaches out of the image"
        assert (boxes[:, 1::2] <= height).all(), "a box reaches out of the image"
        assert (scores[1:] <= scores[:-1] + 1e-6).all(), "expected the highest score first"
        assert ((labels >= 0) & (labels < CLASSES)).all(), "labels are class indices from 0"


def check_modes(plugin: DetectorPlugin) -> None:
    """Refuse a detector that leaves its module in another mode than it found it in."""
    network, (images, _) = _network(plugin), _batch()
    for training in (True, False):
        network.module.train(training)
        network.detect(images)
        assert network.module.training is training, "detect left the module in another mode"


def check_embeddings(plugin: DetectorPlugin) -> None:
    """Refuse embeddings that are not one vector per image without gradient, where the detector gives them."""
    if Need.EMBEDDINGS not in plugin.gives:
        return
    network, (images, _) = _network(plugin), _batch()
    vectors = network.embed(images)
    assert vectors.ndim == 2, f"embed: expected [batch, d], found {tuple(vectors.shape)}"
    assert len(vectors) == len(images), f"embed: expected {len(images)} vectors, one per image, found {len(vectors)}"
    assert not vectors.requires_grad, "embed: expected vectors without gradient"


def check_neighbours(plugin: DetectorPlugin) -> None:
    """Refuse a detector to which another image in the batch makes a difference."""
    import torch  # noqa: PLC0415

    if Need.EMBEDDINGS not in plugin.gives:
        return
    network, (images, _) = _network(plugin), _batch()
    wide = [images[0], images[2]]
    together = network.embed(wide)
    alone = torch.cat([network.embed([image]) for image in wide])
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-5), "embed: a neighbour changed the vector of an image"


def check_region_features(plugin: DetectorPlugin) -> None:
    """Refuse region features that are not one vector per box, also for no box, where the detector gives them."""
    if Need.REGION_FEATURES not in plugin.gives:
        return
    network, (images, targets) = _network(plugin), _batch()
    boxes = [target["boxes"] for target in targets]
    counts = [len(vectors) for vectors in network.region_features(images, boxes)]
    assert counts == [len(b) for b in boxes], f"region_features: expected one vector per box, found {counts}"


def check_classifier_outputs(plugin: DetectorPlugin) -> None:
    """Refuse class probabilities of regions that do not sum to 1, the background included, where they are given."""
    if Need.CLASSIFIER_FEATURES not in plugin.gives:
        return
    network, (images, targets) = _network(plugin), _batch()
    boxes = [target["boxes"] for target in targets]
    for (features, probabilities), of_image in zip(network.classifier_outputs(images, boxes), boxes, strict=True):
        shape = tuple(probabilities.shape)
        expected = (len(of_image), CLASSES + 1)
        assert shape == expected, f"classifier_outputs: expected probabilities of shape {expected}, found {shape}"
        assert len(features) == len(of_image), "classifier_outputs: expected one feature vector per box"
        assert ((probabilities.sum(dim=1) - 1).abs() < 1e-4).all(), "classifier_outputs: a row does not sum to 1"


def check_masks(plugin: DetectorPlugin) -> None:
    """Refuse mask outputs that are not one grid of logits per box and class with a true mask, where they are given."""
    if Need.MASKS not in plugin.gives:
        return
    network, (images, targets) = _network(plugin), _batch()
    for (logits, truth), target in zip(network.mask_outputs(images, targets), targets, strict=True):
        boxes, size = len(target["boxes"]), logits.shape[-1]
        expected = (boxes, CLASSES, size, size)
        assert tuple(logits.shape) == expected, f"mask_outputs: expected {expected}, found {tuple(logits.shape)}"
        assert tuple(truth.shape) == (boxes, size, size), "mask_outputs: expected a true mask on the grid of each box"


def check_cached_detections(plugin: DetectorPlugin) -> None:
    """Refuse cached features from which other detections follow than from the images, where they are given."""
    import torch  # noqa: PLC0415

    if Need.LAST_LAYERS not in plugin.gives:
        return
    network, (images, _) = _network(plugin), _batch()
    for cached, plain in zip(network.cached_features(images).detections(), network.detect(images), strict=True):
        assert torch.equal(cached["boxes"], plain["boxes"]), "cached_features: expected the detections of `detect`"


def check_last_layers(plugin: DetectorPlugin) -> None:
    """Refuse a loss that is not one fixed, smooth function of the last layers' weights per image, where it is given."""
    import torch  # noqa: PLC0415

    if Need.LAST_LAYERS not in plugin.gives:
        return
    from alloop.detectors.last_layers import gradient, slopes  # noqa: PLC0415

    network, (images, targets) = _network(plugin), _batch()
    weights = {name: network.module.get_parameter(name).detach() for name in network.last_layers}
    loss = network.cached_features([images[0], images[2]]).losses([targets[0], targets[2]], [0, 1])
    assert loss(weights).shape == (2,), f"expected one loss per image, found shape {tuple(loss(weights).shape)}"
    assert torch.equal(loss(weights), loss(weights)), "expected sampling to be fixed when the loss is made"
    generator = torch.Generator().manual_seed(0)
    along = {name: torch.randn(weight.shape, generator=generator) for name, weight in weights.items()}
    reverse = gradient(loss, weights)
    expected = sum(float((reverse[name] * along[name]).sum()) for name in along)
    forward = float(slopes(loss, weights, along).sum())
    assert abs(forward - expected) <= 1e-4 * (1 + abs(expected)), "forward and reverse mode differ"


def detector_checks() -> list[DetectorCheck]:
    """Return every check of the detector contract; each takes a detector plug-in."""
    return [
        check_parameters,
        check_capabilities,
        check_same_seed_same_weights,
        check_losses,
        check_gradients,
        check_classification_terms,
        check_class_balance,
        check_detections,
        check_modes,
        check_embeddings,
        check_neighbours,
        check_region_features,
        check_classifier_outputs,
        check_masks,
        check_cached_detections,
        check_last_layers,
    ]


def _network(plugin: DetectorPlugin) -> Any:
    """Build the network under a fixed seed; which capabilities it has is what the checks find out."""
    from alloop.detectors.seeding import seeded  # noqa: PLC0415  imports torch

    with seeded(0):
        return plugin.build(CLASSES)


def _batch() -> tuple[list[Any], list[Mapping[str, Any]]]:
    """Return three images of two sizes with their targets, the second without a box."""
    import torch  # noqa: PLC0415

    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, side, generator=generator) for side in (96, 64, 96)]
    boxes = [torch.tensor([[4.0, 4, 30, 30], [20, 20, 50, 60]]), torch.zeros(0, 4), torch.tensor([[10.0, 10, 40, 44]])]
    labels = [torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64), torch.tensor([0])]
    masks = [torch.ones(len(b), *i.shape[-2:], dtype=torch.uint8) for b, i in zip(boxes, images, strict=True)]
    parts = zip(boxes, labels, masks, strict=True)
    return images, [{"boxes": b, "labels": k, "masks": m} for b, k, m in parts]
