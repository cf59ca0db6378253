"""Classification: scoring by influence against inference and against a backward pass per image.

    OMP_NUM_THREADS=1 python benchmarks/classification.py

The network is a ResNet-18 with the stem of CIFAR on random images of 32 x 32 pixels, with random weights: what is timed
does not depend on them. Every convolution and linear weight is differentiated. With z = W x, the slope of
z is W x' + W' x, so that a pass with a tangent in every weight takes three products for each one of inference: where
products take all the time, the ratio is 0.33.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from speed import best, line
from torch.nn import functional

from alloop.data.images import MemoryImages
from alloop.data.pixels import PixelCache
from alloop.detectors.classification.classifier import ImageClassifier
from alloop.detectors.classification.fitted import FittedTorchClassifier
from alloop.detectors.classification.networks import build_resnet
from alloop.query import Need
from alloop.values import ImageId, ImageRecord

IMAGES, BATCH, SIDE = 128, 64, 32


def main() -> None:
    """Print the times and the ratios."""
    torch.manual_seed(0)
    images = random_images()
    fitted = classifier(images)
    ids = [ImageId(i) for i in range(IMAGES)]
    module = fitted.detector.module
    direction = {
        name: np.random.default_rng(0).normal(size=module.get_parameter(name).shape) for name in fitted.last_layers
    }
    ours, plain, peer = best(
        lambda: fitted.pseudo_label_slopes(ids, direction, 0.1, "hard"),
        lambda: fitted.class_probabilities(ids),
        backward_per_image(fitted, images, ids[: IMAGES // 4], direction),
    )
    ours, plain, peer = 1e3 * ours / IMAGES, 1e3 * plain / IMAGES, 4e3 * peer / IMAGES
    text = f"{ours:.2f} ms per image, inference {plain:.2f}"
    line("influence scoring, all weights", text, plain / ours, ">= 0.4", met=plain >= 0.4 * ours)
    text = f"{ours:.2f} ms per image, inference and a backward pass per image {peer:.2f}"
    line("influence scoring, all weights", text, peer / ours, ">= 1", met=peer >= ours)


def random_images() -> MemoryImages:
    """Return images of random pixels."""
    chance = np.random.default_rng(0)
    records = {ImageId(i): ImageRecord(ImageId(i), f"{i}", SIDE, SIDE) for i in range(IMAGES)}
    return MemoryImages({i: chance.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for i in records}, records)


def classifier(source: MemoryImages) -> Any:
    """Return a classifier over images, as strategies get it."""
    network = ImageClassifier(build_resnet("resnet18", 10, "cifar").eval(), SIDE)
    settings: Any = {"gives": frozenset(Need), "batch_size": BATCH, "device": torch.device("cpu")}
    return FittedTorchClassifier(network, source, PixelCache(source, SIDE, SIDE), ("",) * 10, **settings)


def backward_per_image(fitted: Any, images: MemoryImages, ids: list[ImageId], direction: Any) -> Callable[[], None]:
    """Return what ISAL's released code does: inference, then the gradient of each image alone, times the direction."""
    module = fitted.detector.module
    parameters = [module.get_parameter(name) for name in direction]
    pixels = {i: torch.from_numpy(images.read(i)).permute(2, 0, 1)[None] / 255 for i in ids}
    along = [torch.from_numpy(part).float() for part in direction.values()]

    def run() -> None:
        labels = fitted.class_probabilities(ids).argmax(axis=1)
        for image_id, label in zip(ids, labels, strict=True):
            logits = module(pixels[image_id])
            gradients = torch.autograd.grad(functional.cross_entropy(logits, torch.tensor([label])), parameters)
            sum(float((g * part).sum()) for g, part in zip(gradients, along, strict=True))

    return run


if __name__ == "__main__":
    main()
