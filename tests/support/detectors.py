"""Small detectors of every kind, and images of random pixels for them."""

import numpy as np
import torch

from alloop.config.blocks import DetectorConfig
from alloop.data.pixels import PixelCache
from alloop.detectors import TABLE
from alloop.detectors.fitted import FittedTorchDetector
from alloop.detectors.seeding import seeded
from alloop.plugins import load_class
from alloop.values import ImageRecord

NAMES = sorted(TABLE)


def make(name, backbone="tiny", classes=3, **changes):
    backbone = "resnet18" if name == "faster_rcnn_c4" else backbone
    config = DetectorConfig(
        **{
            "name": name,
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
            **changes,
        }
    )
    with seeded(0):
        return load_class("detector", name, TABLE)(config, classes)


class Source:
    def __init__(self, sizes):
        chance = np.random.default_rng(0)
        self.records = {i: ImageRecord(i, "", w, h) for i, (w, h) in enumerate(sizes)}
        self.pixels = {i: chance.integers(0, 255, (h, w, 3), dtype=np.uint8) for i, (w, h) in enumerate(sizes)}

    def read(self, image_id):
        return self.pixels[image_id]

    def sha256(self, image_id):
        return ""


def fitted(detector, sizes, batch_size=4):
    source = Source(sizes)
    cache = PixelCache(source, list(source.records), 64, 96, 10**7)
    return FittedTorchDetector(
        detector, source, cache, ("a", "b", "c"), batch_size=batch_size, device=torch.device("cpu")
    )
