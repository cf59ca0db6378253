"""The settings of a first config follow from images, boxes and device."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.config.reading import parse_config
from alloop.data.records import Box, Category, Records
from alloop.data.sizes import box_sides
from alloop.data.validation import validate
from alloop.starting.settings import ROUNDS, SIDE, STEP, Device, first_settings
from alloop.values import ImageId, ImageRecord

CPU, GPU = Device("cpu"), Device("cuda", 24.0)
DEVICES = [CPU, GPU, Device("cuda", 6.0)]
BLOCK = {"annotations": "a.json"}


def data_set(images=40, size=(640, 480), sides=(50.0,), unlabeled=0):
    """Return a data set in which each image that is labeled has a square box of each side."""
    listed = [ImageRecord(ImageId(n), f"{n}.png", *size) for n in range(1, images + 1)]
    drawn = [(image.image_id, side) for image in listed[unlabeled:] for side in sides]
    boxes = [Box(n, image_id, 1, (0.0, 0.0, float(side), float(side))) for n, (image_id, side) in enumerate(drawn)]
    left = frozenset(image.image_id for image in listed[:unlabeled])
    return validate(Records(listed, [Category(1, "a")], boxes, left), "pool")


def values(pool, device=CPU, others=()):
    return {setting.key: setting.value for setting in first_settings(pool, others, device)}


def tree_of(settings):
    tree = {"data": {"train": BLOCK, "test": BLOCK}}
    for key, value in settings.items():
        block, _, name = key.rpartition(".")
        (tree.setdefault(block, {}) if block else tree)[name] = value
    return tree


numbers = st.integers(1, 3000)
shapes = st.tuples(numbers, numbers)


@given(
    st.integers(1, 300), shapes, st.lists(st.floats(1, 40), max_size=3), st.sampled_from([CPU, GPU, Device("cuda", 6)])
)
def test_a_config_follows_from_any_data(images, size, sides, device):
    pool = data_set(images, size, [min(side, *size) for side in sides])
    settings = values(pool, device)
    config = parse_config(tree_of(settings))
    short, long = settings["detector.short_side"], settings["detector.long_side"]
    assert short % STEP == long % STEP == 0
    assert STEP <= short <= device.largest
    assert long >= short
    assert 1 <= config.loop.seed_set.number <= images
    seen = config.training.iterations * config.training.batch_size
    last = min(images, ROUNDS * int(config.loop.seed_set.number))
    assert seen >= 12 * last or config.training.iterations == device.most_steps


@given(st.lists(st.floats(4, 400), min_size=1, max_size=6), st.sampled_from([CPU, GPU]))
def test_images_are_as_small_as_nine_tenths_of_the_boxes_allow(sides, device):
    pool = data_set(10, (640, 480), sides)
    settings = values(pool, device)
    short, shape = settings["detector.short_side"], 640 / 480

    def tenth(side):
        return np.quantile(box_sides(pool, side, 32 * int(np.ceil(side * shape / 32))), 0.1)

    assert all(tenth(side) < SIDE for side in range(192, short, 32))
    assert tenth(short) >= SIDE or short == min(960, device.largest)


def test_what_is_proposed_for_known_data():
    cpu = values(data_set(200, sides=[80.0, 100.0]))
    assert (cpu["detector.name"], cpu["detector.short_side"], cpu["detector.long_side"]) == ("fcos", 192, 256)
    assert (cpu["loop.seed_set"], cpu["loop.query_size"], cpu["loop.rounds"]) == (20, 20, 5)
    assert (cpu["training.batch_size"], cpu["training.iterations"]) == (8, 150)
    gpu = values(data_set(200, sides=[40.0, 100.0]), GPU)
    assert (gpu["detector.name"], gpu["detector.backbone"]) == ("faster_rcnn", "resnet50")
    assert gpu["detector.short_side"] == 192
    assert gpu["detector.anchor_size"] == 16  # a box of 40 pixels after scaling by 192 / 480
    assert (gpu["training.batch_size"], gpu["training.lr"]) == (8, 0.01)
    small = values(data_set(200), Device("cuda", 6.0))
    assert (small["training.batch_size"], small["training.lr"]) == (4, 0.005)


def test_large_pools_are_bought_in_batches_of_500_and_small_ones_in_fives():
    assert values(data_set(9000))["loop.query_size"] == 500
    assert values(data_set(9000))["training.iterations"] == 1500  # a CPU takes no more
    assert values(data_set(9000), GPU)["training.iterations"] == 3750  # 12 passes over 2,500 images
    assert values(data_set(24))["loop.query_size"] == 5
    assert values(data_set(3))["loop.seed_set"] == 3


def test_images_are_enlarged_at_most_twofold():
    settings = first_settings(data_set(10, (100, 100), [2.0]), [], CPU)
    size = next(setting for setting in settings if setting.key == "detector.short_side")
    assert size.value == 224
    assert (
        size.reason == "a tenth of the boxes have sides under 4 pixels even so; more than twice the image adds nothing"
    )


def test_more_detections_than_the_default_where_an_image_has_more_boxes():
    assert "detector.max_detections" not in values(data_set(3, sides=[20.0] * 100))
    assert values(data_set(3, sides=[20.0] * 101))["detector.max_detections"] == 130


def test_people_are_asked_where_images_are_not_labeled():
    none = values(data_set(50, unlabeled=50), others=[data_set(10, sides=[100.0])])
    assert (none["oracle.name"], none["loop.seed_set"]) == ("folder", 5)
    assert "loop.seed_images" not in none
    assert none["detector.short_side"] == 192  # by the boxes of the test split
    some = values(data_set(50, unlabeled=38))
    assert (some["loop.seed_set"], some["loop.seed_images"], some["loop.query_size"]) == (12, "labeled.txt", 5)
    assert "oracle.name" not in values(data_set(50))


def test_without_any_box_images_are_as_large_as_the_device_allows():
    assert values(data_set(50, unlabeled=50))["detector.short_side"] == 256
    assert values(data_set(50, unlabeled=50), GPU)["detector.short_side"] == 800


@pytest.mark.parametrize("device", [CPU, GPU])
def test_every_setting_has_a_reason_in_plain_words(device):
    for setting in first_settings(data_set(), [], device):
        assert 10 < len(setting.reason) < 110
        assert "  " not in setting.reason
