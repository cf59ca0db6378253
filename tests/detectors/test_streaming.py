"""What a detector will read next is expected, and let go when nobody reads any more."""

from itertools import chain

import pytest
import torch

from alloop.data.pixels import PixelCache
from alloop.detectors.frozen_features import FrozenFeatureCache
from alloop.detectors.protocol import FrozenFeatures
from tests.support.detectors import Source, confident, fitted

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
