"""Batches of classes: the labels of their images, and windows that are a function of the step."""

import numpy as np
import pytest
import torch

from alloop.class_values import ClassLabel
from alloop.config.training import TrainingConfig
from alloop.data.pixels import PixelCache
from alloop.randomness import RoundSeed
from alloop.training.classification_batches import ClassificationBatches
from alloop.values import ImageId
from tests.support.detectors import Source

SIDE, COUNT = 8, 6


def batches(crop_padding=0, seed=0, **config):
    source = Source([(SIDE, SIDE)] * COUNT)
    labeled = {ImageId(i): ClassLabel(i % 3) for i in range(COUNT)}
    settings = TrainingConfig(iterations=1, batch_size=COUNT, crop_padding=crop_padding, **{"flip": 0.0, **config})
    cache = PixelCache(source, SIDE, SIDE)
    fixed = {"with_masks": False, "device": torch.device("cpu")}
    return ClassificationBatches(cache, labeled, settings, RoundSeed(seed, 0), **fixed)


def pixels_of(image_id):
    return torch.from_numpy(Source([(SIDE, SIDE)] * COUNT).pixels[image_id]).permute(2, 0, 1) / 255


def test_a_step_has_the_images_and_their_classes():
    images, targets, ids = batches()(0)
    assert sorted(ids) == list(range(COUNT))
    for image, target, image_id in zip(images, targets, ids, strict=True):
        torch.testing.assert_close(image, pixels_of(image_id))
        assert target["labels"].tolist() == [image_id % 3]
        assert set(target) == {"labels"}


def test_mirrored_images_keep_their_class():
    images, targets, ids = batches(flip=1.0)(0)
    for image, target, image_id in zip(images, targets, ids, strict=True):
        torch.testing.assert_close(image, pixels_of(image_id).flip(2))
        assert target["labels"].tolist() == [image_id % 3]


def test_a_window_is_a_shift_of_the_image_by_at_most_the_padding():
    seen, padding = set(), 2
    for step in range(40):
        images, _, ids = batches(crop_padding=padding)(step)
        for image, image_id in zip(images, ids, strict=True):
            padded = torch.nn.functional.pad(pixels_of(image_id), [padding] * 4)
            corners = [
                (x, y)
                for x in range(2 * padding + 1)
                for y in range(2 * padding + 1)
                if torch.allclose(image, padded[:, y : y + SIDE, x : x + SIDE])
            ]
            assert len(corners) == 1
            seen |= set(corners)
    assert len(seen) == (2 * padding + 1) ** 2, "every window occurs"


def test_windows_are_a_function_of_seed_and_step():
    one, again, other = batches(2)(3), batches(2)(3), batches(2, seed=1)(3)
    assert all(torch.equal(a, b) for a, b in zip(one[0], again[0], strict=True))
    by_id = dict(zip(other[2], other[0], strict=True))
    assert any(not torch.equal(image, by_id[i]) for image, i in zip(one[0], one[2], strict=True))


def test_images_of_rare_classes_are_repeated():
    source = Source([(SIDE, SIDE)] * COUNT)
    labeled = {ImageId(i): ClassLabel(int(i == 0)) for i in range(COUNT)}
    config = TrainingConfig(iterations=1, batch_size=2, repeat_threshold=0.5)
    fixed = {"with_masks": False, "device": torch.device("cpu")}
    made = ClassificationBatches(PixelCache(source, SIDE, SIDE), labeled, config, RoundSeed(0, 0), **fixed)
    assert made.image_ids.count(ImageId(0)) > 1
    np.testing.assert_array_equal(np.concatenate(made.labels), [1, 0, 0, 0, 0, 0])
    assert made.class_boxes(2).tolist() == [COUNT - 1, made.image_ids.count(ImageId(0))]


@pytest.mark.parametrize("padding", [0, 3])
def test_a_classifier_is_trained_on_them(padding):
    """One step of gradient descent on a batch lowers its loss."""
    from alloop.detectors.classification.classifier import ImageClassifier
    from alloop.detectors.classification.networks import build_tiny

    torch.manual_seed(0)
    classifier = ImageClassifier(build_tiny(3))
    images, targets, _ = batches(padding)(0)
    optimizer = torch.optim.SGD(classifier.module.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        loss = classifier.losses(images, targets)["classification"].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
