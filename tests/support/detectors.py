"""Small detectors of every kind, and images of random pixels for them."""

import numpy as np
import torch

from alloop.config.tables import NETWORKS
from alloop.data.pixels import PixelCache
from alloop.detectors.fitted import FittedTorchDetector
from alloop.detectors.protocol import MaskDetector
from alloop.detectors.seeding import seeded
from alloop.plugins import make_plugin, parameter_names, plugin_class
from alloop.query import Need
from alloop.values import ImageRecord

NAMES = sorted(NETWORKS)
VARIANTS = {"fcos_isal": ("fcos", {"variant": "isal"})}
KINDS = [*NAMES, *VARIANTS]


def chosen(kind):
    """Return the keys of a config that choose a detector of `KINDS`."""
    name, own = VARIANTS.get(kind, (kind, {}))
    return {"detector.name": name, **{f"detector.{key}": value for key, value in own.items()}}


def plugin(name, backbone="tiny", **changes):
    """Return a small detector plug-in. Keys that it does not have are left out, unless they are in `changes`."""
    backbone = "resnet18" if name == "faster_rcnn_c4" else backbone
    name, variant = VARIANTS.get(name, (name, {}))
    small = {
        "backbone": backbone,
        "weights": "none",
        "channels": 32,
        "tower_convs": 1,
        "head_width": 16,
        "proposals": 40,
        "sampled_regions": 16,
        "anchor_size": 12 if backbone == "tiny" else 32,
        "short_side": 64,
        "long_side": 96,
        "score_threshold": 0.01,
    }
    cls = plugin_class("detector", name, NETWORKS)
    own = {key: value for key, value in small.items() if key in parameter_names(cls)}
    return make_plugin("detector", cls, name, own | variant | changes)


def make(name, backbone="tiny", classes=3, **changes):
    """Build a small network with the weights of seed 0."""
    with seeded(0):
        return plugin(name, backbone, **changes).build(classes)


class Source:
    """An image source of random pixels."""

    def __init__(self, sizes):
        chance = np.random.default_rng(0)
        self.records = {i: ImageRecord(i, "", w, h) for i, (w, h) in enumerate(sizes)}
        self.pixels = {i: chance.integers(0, 255, (h, w, 3), dtype=np.uint8) for i, (w, h) in enumerate(sizes)}

    def read(self, image_id):
        return self.pixels[image_id]

    def sha256(self, image_id):
        return ""


def fitted(detector, sizes, batch_size=4, gives=None):
    """Return a detector as strategies get it, over random images of some sizes."""
    source = Source(sizes)
    cache = PixelCache(source, 64, 96)
    masks = {Need.MASKS} if isinstance(detector, MaskDetector) else set()
    return FittedTorchDetector(
        detector,
        source,
        cache,
        ("a", "b", "c"),
        gives=frozenset(masks) if gives is None else gives,
        batch_size=batch_size,
        device=torch.device("cpu"),
    )


def scene(*, posteriors=False, dtype=torch.float32):
    """Three images of one size, the second without a box."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, 96, generator=generator).to(dtype) for _ in range(3)]
    boxes = [torch.tensor([[4.0, 4, 30, 30], [20, 20, 50, 60]]), torch.zeros(0, 4), torch.tensor([[10.0, 10, 40, 44]])]
    labels = [torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64), torch.tensor([0])]
    targets = []
    for b, k in zip(boxes, labels, strict=True):
        target = {"boxes": b.to(dtype), "labels": k, "masks": torch.ones(len(b), 64, 96, dtype=torch.uint8)}
        if posteriors:
            target["posteriors"] = (torch.rand(len(b), 3, generator=generator) / 3).to(dtype)
        targets.append(target)
    return images, targets


def confident(name):
    """A detector that finds things: its class prior is lifted, as training would."""
    detector = make(name)
    if name in ("fcos", "fcos_isal", "retinanet"):
        torch.nn.init.zeros_(detector.module.head.classification_head.cls_logits.bias)
    if name == "fcos":
        torch.nn.init.ones_(detector.module.head.regression_head.bbox_reg.bias)
    if name == "fcos_isal":  # distances near 16 pixels
        torch.nn.init.constant_(detector.module.head.regression_head.bbox_reg.bias, 2.77)
    return detector
