"""Contract checks for detectors.

Each check is a plain function that raises AssertionError with what was expected and what was found.
"""

from collections.abc import Callable
from typing import Any

from alloop.detectors.plugin import DetectorPlugin
from alloop.query import Need


def check_detector_losses(plugin: DetectorPlugin) -> None:
    """Each term is one finite number an image, also for an image without boxes, and gradients reach the module."""
    import torch  # noqa: PLC0415  strategies are checked without it

    detector: Any
    detector, (images, targets) = plugin.build(3), _batch()
    detector.module.train()
    terms = detector.losses(images, targets)
    for name, term in terms.items():
        assert term.shape == (len(images),), f"{name}: expected one number an image, found shape {tuple(term.shape)}"
        assert torch.isfinite(term).all(), f"{name}: not finite"
    torch.stack([term.sum() for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
    assert any(p.grad is not None for p in detector.module.parameters()), "no gradient reached the module"


def check_detector_detections(plugin: DetectorPlugin) -> None:
    """Boxes inside the image, scores in 0..1 from high to low, labels from 0, a posterior a detection."""
    detector: Any
    detector, (images, _) = plugin.build(3), _batch()
    detector.module.train()
    for image, found in zip(images, detector.detect(images), strict=True):
        height, width = image.shape[-2:]
        boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
        assert found["probabilities"].shape == (len(boxes), 3), "expected a posterior over the classes a detection"
        assert len(boxes) == len(scores) == len(labels), "expected as many boxes as scores and labels"
        assert (boxes[:, 0::2] <= width).all(), "a box reaches out of the image"
        assert (boxes[:, 1::2] <= height).all(), "a box reaches out of the image"
        assert (scores[1:] <= scores[:-1] + 1e-6).all(), "expected the most confident first"
        assert ((labels >= 0) & (labels < 3)).all(), "labels are class indices from 0"
    assert detector.module.training, "detect left the module in another mode"


def check_detector_features(plugin: DetectorPlugin) -> None:
    """One vector an image and one a box, without gradient."""
    detector: Any
    detector, (images, targets) = plugin.build(3), _batch()
    embedded = detector.embed(images)
    assert embedded.ndim == 2, f"expected [batch, d], found {tuple(embedded.shape)}"
    assert len(embedded) == len(images), "expected one vector an image"
    assert not embedded.requires_grad, "embed is not for training"
    regions = detector.region_features(images, [target["boxes"] for target in targets])
    assert [len(r) for r in regions] == [len(t["boxes"]) for t in targets], "expected one vector a box"


def check_detector_last_layers(plugin: DetectorPlugin) -> None:
    """Where last layers are given: the same detections, and each image's loss as a smooth function of the weights."""
    import torch  # noqa: PLC0415

    detector: Any
    detector, (images, targets) = plugin.build(3), _batch()
    if Need.LAST_LAYERS not in plugin.gives:
        return
    from alloop.detectors.last_layers import gradient, slopes  # noqa: PLC0415

    images, targets = [images[0], images[2]], [targets[0], targets[2]]
    weights = {name: detector.module.get_parameter(name).detach() for name in detector.last_layers}
    frozen = detector.cached_features(images)
    for ours, plain in zip(frozen.detections(), detector.detect(images), strict=True):
        assert torch.equal(ours["boxes"], plain["boxes"]), "expected the detections of `detect`"
    loss = frozen.losses(targets, [0, 1])
    assert loss(weights).shape == (2,), "expected one loss an image"
    assert torch.equal(loss(weights), loss(weights)), "expected sampling to be fixed when the loss is made"
    generator = torch.Generator().manual_seed(0)
    along = {name: torch.randn(weight.shape, generator=generator) for name, weight in weights.items()}
    slope, slopes_ = gradient(loss, weights), slopes(loss, weights, along)
    expected = sum(float((slope[name] * along[name]).sum()) for name in along)
    assert abs(float(slopes_.sum()) - expected) <= 1e-4 * (1 + abs(expected)), "forward and reverse mode differ"


def detector_checks() -> list[Callable[[DetectorPlugin], None]]:
    """Every check of the detector contract; each takes a detector plug-in."""
    return [
        check_detector_losses,
        check_detector_detections,
        check_detector_features,
        check_detector_last_layers,
    ]


def _batch() -> tuple[list[Any], list[Any]]:
    """Three images of two sizes, the second without a box."""
    import torch  # noqa: PLC0415

    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, side, generator=generator) for side in (96, 64, 96)]
    boxes = [torch.tensor([[4.0, 4, 30, 30], [20, 20, 50, 60]]), torch.zeros(0, 4), torch.tensor([[10.0, 10, 40, 44]])]
    labels = [torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64), torch.tensor([0])]
    masks = [torch.ones(len(b), *i.shape[-2:], dtype=torch.uint8) for b, i in zip(boxes, images, strict=True)]
    parts = zip(boxes, labels, masks, strict=True)
    return images, [{"boxes": b, "labels": k, "masks": m} for b, k, m in parts]
