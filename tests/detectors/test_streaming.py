"""What a detector will read next is expected, and let go when nobody reads any more."""

from itertools import chain

import numpy as np
import pytest
import torch

from alloop.data.pixels import PixelCache, scaled_size
from alloop.detectors.frozen_features import FrozenFeatureCache
from alloop.detectors.protocol import FrozenFeatures
from tests.support.detectors import NAMES, Source, confident, fitted

SIZES = [(96, 64), (64, 64), (96, 64), (64, 96), (64, 64), (96, 64), (96, 64), (64, 64)]
IDS = list(range(len(SIZES)))


class Spied(PixelCache):
    """A cache that notes what is expected and what is read."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.expected, self.asked = [], []

    def expect(self, reader, wanted, batch_size):
        assert reader == "scoring"
        self.expected.append([image_id for image_id, size in wanted(4) if size == self.size(image_id)])

    def read(self, image_id, size=None):
        self.asked.append(image_id)
        return super().read(image_id, size)


class Kept(FrozenFeatureCache):
    """Frozen features that are kept of images with an even id."""

    def __init__(self):
        pass

    def is_kept(self, image_id, *, mirrored=False):
        return image_id % 2 == 0 and not mirrored

    def read(self, image_id, *, mirrored=False):
        assert not mirrored
        return FrozenFeatures((torch.zeros(1, 1, 1),), (3, 64, 96))


@pytest.fixture
def seen():
    seen = fitted(confident("fcos"), SIZES, batch_size=2)
    seen._cache = Spied(Source(SIZES), 64, 96)
    return seen


def test_each_batch_expects_its_images_and_the_next_ones(seen):
    batches = [ids for ids, _ in seen._batches("a task", IDS)]
    order = list(chain(*batches))
    assert seen._cache.asked == order
    assert sorted(order) == IDS
    begins = [sum(map(len, batches[:k])) for k in range(len(batches))]
    assert seen._cache.expected == [*(order[begin : begin + 6] for begin in begins), []]


def test_images_whose_features_are_kept_are_not_expected_but_where_their_pixels_are_wanted(seen):
    seen._frozen = Kept()
    order = [i for ids, _ in seen._batches("a task", IDS) for i in ids]
    assert seen._cache.expected[0] == [i for i in order[:6] if i % 2]
    seen._cache.expected.clear()
    next(seen._pixel_batches("a task", IDS))
    assert seen._cache.expected[0] == order[:6]


def test_whoever_stops_early_holds_nothing(seen):
    batches = seen._batches("a task", IDS)
    next(batches)
    batches.close()
    assert seen._cache.expected[-1] == []


@pytest.mark.parametrize("name", NAMES)
def test_images_that_are_padded_alike_share_a_batch_and_change_nobody_s_result(name):
    """The short side is 64; long sides of 65 to 96 pixels are all padded to 96, those of 64 are not padded."""
    sizes = [(64 + 5 * k, 64) for k in range(7)]
    seen = fitted(confident(name), sizes, batch_size=8)
    assert [ids for ids, _ in seen._batches("a task", range(7))] == [[0], [1, 2, 3, 4, 5, 6]]
    together, features = seen.detections(range(7)), seen.embeddings(range(7))
    for image_id in range(7):
        alone = seen.detections([image_id])[0]
        assert len(alone.boxes) == len(together[image_id].boxes) > 0
        for field in ("boxes", "scores", "probabilities"):
            assert np.allclose(getattr(alone, field), getattr(together[image_id], field), rtol=1e-4, atol=1e-4)
    assert features.shape[0] == 7


def test_a_detector_that_does_not_say_how_it_pads_gets_images_of_one_size():
    class Plain:
        module = torch.nn.Identity()

        def losses(self, images, targets): ...

        def detect(self, images): ...

    seen = fitted(Plain(), [(64, 64), (80, 64), (96, 64), (80, 64)], gives=frozenset())
    assert [ids for ids, _ in seen._batches("a task", range(4))] == [[0], [1, 3], [2]]


def test_batches_are_nearly_full_whatever_sizes_photographs_have(seen):
    """Sizes are drawn as photographs on the web have them: a long side of 640, any short side down to a third of it."""
    chance = np.random.default_rng(0)
    sides = [(640, int(short)) for short in chance.integers(213, 641, 8192)]
    sizes = [size if chance.random() < 0.7 else size[::-1] for size in sides]

    class Sizes(Spied):
        def size(self, image_id):
            return scaled_size(*sizes[image_id], 800, 1333)

    seen._cache, seen._batch_size = Sizes(Source([]), 800, 1333), 8
    batches = seen._cut(range(8192))
    assert sorted(chain(*batches)) == list(range(8192))
    assert np.mean([len(batch) for batch in batches]) > 0.94 * 8
