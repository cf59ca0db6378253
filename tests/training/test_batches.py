"""Batches are a function of the step, and boxes and masks move with the pixels."""

from itertools import chain

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.data.pixels import PixelCache
from alloop.detectors.frozen_features import FrozenFeatureCache
from alloop.detectors.protocol import FrozenFeatures
from alloop.randomness import RoundSeed
from alloop.training.batches import UnlabeledBatches, batch_rows, training_pixels, training_target
from alloop.training.repeat_factors import image_repeats
from alloop.values import Annotations
from tests.support.training import batches_of, experiment


@settings(max_examples=50, deadline=None, derandomize=True)
@given(images=st.integers(1, 20), batch=st.integers(1, 9), seed=st.integers(0, 5))
def test_every_epoch_sees_every_image_once(images, batch, seed):
    steps = -(-3 * images // batch)
    stream = [row for step in range(steps) for row in batch_rows(RoundSeed(seed, 0), images, batch, step)]
    for epoch in range(3):
        assert sorted(stream[epoch * images : (epoch + 1) * images]) == list(range(images))
    assert batch_rows(RoundSeed(seed, 0), images, batch, steps - 1) == stream[-batch:]


def test_every_epoch_seed_and_round_has_its_own_order():
    orders = [tuple(batch_rows(RoundSeed(0, 0), 40, 40, epoch)) for epoch in range(3)]
    orders += [tuple(batch_rows(RoundSeed(1, 0), 40, 40, 0)), tuple(batch_rows(RoundSeed(0, 1), 40, 40, 0))]
    assert len(set(orders)) == 5


def test_crowd_and_degenerate_records_are_not_trained_on():
    made = experiment()
    image_id, truth = next((i, a) for i, a in made.splits.train.dataset.annotations.items() if len(a) >= 2)
    import dataclasses

    half = dataclasses.replace(truth, trainable=np.arange(len(truth)) == 0, crowd=np.arange(len(truth)) > 0)
    batch = batches_of(made, {image_id: half})
    _, targets, ids = batch(0)
    assert set(ids) == {image_id}
    assert all(len(target["boxes"]) == 1 for target in targets)


def test_a_box_of_which_rounding_leaves_nothing_is_not_trained_on():
    """Mirrored, both sides of the first box become the same float32 number."""
    made = experiment()  # about half of the images are mirrored
    image_id = next(iter(made.splits.train.dataset.annotations))
    left = np.float32(0.001)
    boxes = np.array([[left, 4, np.nextafter(left, np.float32(1)), 30], [4, 4, 30, 30]], dtype=np.float32)
    assert boxes[0, 2] > boxes[0, 0]
    images, targets, _ = batches_of(made, {image_id: Annotations(boxes, [3, 5], [False] * 2, [True] * 2)})(0)
    labels = [target["labels"].tolist() for target in targets]
    assert [5] in labels
    assert [3, 5] in labels
    assert len(labels) == len(images)
    detector = made.new_detector(0)
    detector.module.train()
    assert all(bool(term.isfinite().all()) for term in detector.losses(images, targets).values())


def test_flip_and_scale_move_boxes_and_masks_with_the_pixels():
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[5:10, 2:12] = 255
    mask = (pixels[..., 0] > 0).astype(np.uint8)[None]
    boxes = np.array([[2, 5, 12, 10]], dtype=np.float32)
    for flipped in (False, True):
        out = training_pixels(pixels, (80, 40), mirrored=flipped)
        moved, masks = training_target(boxes, mask, (40, 20), (80, 40), mirrored=flipped)
        ys, xs = np.nonzero(out[..., 0] > 127)
        assert np.allclose(moved[0], [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1.5)
        ys, xs = np.nonzero(masks[0])
        assert np.allclose(moved[0], [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1.5)
    same = (40, 20)
    twice = training_pixels(training_pixels(pixels, same, mirrored=True), same, mirrored=True)
    assert np.array_equal(twice, pixels)
    twice = training_target(*training_target(boxes, mask, same, same, mirrored=True), same, same, mirrored=True)
    assert np.array_equal(twice[0], boxes)
    assert np.array_equal(twice[1], mask)


def test_multi_scale_draws_every_size_and_stays_below_the_limit():
    made = experiment()
    labeled = dict(list(made.splits.train.dataset.annotations.items())[:4])
    batch = batches_of(made, labeled, short_sides=(32, 48, 64))
    sides = {int(image.shape[-1]) for step in range(10) for image in batch(step)[0]}
    assert sides == {32, 48, 64}


def test_images_of_rare_classes_are_repeated_in_the_stream():
    """Law: the stream shows each image as often as its repeat factor says; without a threshold, once."""
    made = experiment()
    labeled = dict(made.splits.train.dataset.annotations.items())
    labels = [labeled[i].labels[labeled[i].trainable] for i in sorted(labeled)]
    expected = image_repeats(labels, 10, 0.5)
    assert expected.max() > 1
    plain, repeated = batches_of(made, labeled), batches_of(made, labeled, repeat_threshold=0.5)
    assert plain.image_ids == sorted(labeled)
    assert repeated.image_ids == [i for i, times in zip(sorted(labeled), expected, strict=True) for _ in range(times)]
    size = made.config.training.batch_size
    shown = [i for step in range(-(-len(repeated.image_ids) // size)) for i in repeated(step)[2]]
    assert sorted(shown[: len(repeated.image_ids)]) == repeated.image_ids


def test_unlabeled_images_are_shown_as_often_as_their_repeats_say():
    made = experiment()
    pool = made.splits.train
    ids = sorted(pool.images.records)[:5]
    batches = UnlabeledBatches(
        PixelCache(pool.images, 64, 64),
        ids,
        RoundSeed(0, 0),
        batch_size=3,
        device=torch.device("cpu"),
    )
    first = [i for step in range(5) for i in batches(step)[1]]
    assert all(sorted(first[k : k + 5]) == ids for k in (0, 5, 10))
    batches.set_repeats(np.array([1, 3, 1, 2, 2]), 5)
    shown = [i for step in range(5, 8) for i in batches(step)[1]]
    assert sorted(shown) == [ids[0], *[ids[1]] * 3, ids[2], *[ids[3]] * 2, *[ids[4]] * 2]
    batches.set_repeats(np.ones(5, dtype=np.int64), 8)
    assert [i for step in range(8, 13) for i in batches(step)[1]] != first, "counted anew, ordered anew"


class Spied(PixelCache):
    """A cache that notes what is expected and what is read."""

    def expect(self, reader, wanted, batch_size):
        self.expected, self.asked = wanted(2 * batch_size), []

    def read(self, image_id, size=None):
        self.asked.append((image_id, size or self.size(image_id)))
        return super().read(image_id, size)


class Kept:
    """Frozen features of which those of mirrored images are kept."""

    def is_kept(self, _image_id, *, mirrored):
        return mirrored

    def read(self, _image_id, *, mirrored):
        return mirrored


def labeled_images(made):
    pool = made.splits.train
    return {i: pool.dataset.annotations[i] for i in sorted(pool.images.records)[:7]}


def test_what_a_step_and_the_next_ones_read_is_expected():
    made = experiment()
    batches = batches_of(made, labeled_images(made), short_sides=(48, 64))
    batches._cache = cache = Spied(made.splits.train.images, 64, 64)
    read = [batches(step) and cache.asked for step in range(6)]
    for step in range(4):
        batches(step)
        assert cache.expected == list(chain(*read[step : step + 3]))
    assert len({size for _, size in chain(*read)}) == 2


def test_where_features_are_kept_no_pixels_are_expected():
    made = experiment()
    batches = batches_of(made, labeled_images(made))
    batches._cache, batches._frozen = cache, _ = Spied(made.splits.train.images, 64, 64), Kept()
    steps = [batches(step) for step in range(3)]
    needed = [i for mirrored, _, ids in steps for i, kept in zip(ids, mirrored, strict=True) if not kept]
    batches(0)
    assert [image_id for image_id, _ in cache.expected] == needed
    assert 0 < len(needed) < sum(len(ids) for *_, ids in steps)


def test_what_unlabeled_batches_read_is_expected():
    images = experiment().splits.train.images
    cache, ids = Spied(images, 64, 64), sorted(images.records)[:5]
    batches = UnlabeledBatches(cache, ids, RoundSeed(0, 0), batch_size=3, device=torch.device("cpu"))
    read = [batches(step) and cache.asked for step in range(3)]
    batches(0)
    assert cache.expected == list(chain(*read))


def test_the_teacher_s_view_of_unlabeled_images_is_their_frozen_features_where_there_are_some():
    images = experiment().splits.train.images
    ids, cache = sorted(images.records)[:4], PixelCache(images, 64, 64)

    class Numbers(FrozenFeatureCache):
        def __init__(self):
            pass

        def read(self, image_id, *, mirrored=False):
            return FrozenFeatures((torch.tensor(float(image_id)),), (3, 64, 64))

    for frozen in (None, Numbers()):
        batches = UnlabeledBatches(cache, ids, RoundSeed(0, 0), batch_size=2, device=torch.device("cpu"), frozen=frozen)
        pixels, shown = batches(0)
        seen = batches.unchanged(shown, pixels)
        if frozen is None:
            assert all(a is b for a, b in zip(seen, pixels, strict=True))
        else:
            assert [features.maps[0].item() for features in seen] == [float(image_id) for image_id in shown]
