"""What is told about data agrees with a slow count."""

from hypothesis import given
from hypothesis import strategies as st

from alloop.data.records import Box, Category, Records
from alloop.data.summary import untrained_boxes
from alloop.data.validation import validate
from alloop.geometry.boxes import MIN_SIDE
from alloop.values import ImageId, ImageRecord

KINDS = {
    "trained": {"bbox": (1, 1, 5, 5)},
    "thin": {"bbox": (1, 1, 0.5, 5)},
    "crowd": {"bbox": (1, 1, 5, 5), "iscrowd": 1},
    "thin crowd": {"bbox": (1, 1, 0.5, 5), "iscrowd": 1},
    "ignored": {"bbox": (1, 1, 5, 5), "ignore": 1},
    "thin and ignored": {"bbox": (1, 1, 0.5, 5), "ignore": 1},
}


def dataset_of(kinds):
    boxes = [Box(n + 1, ImageId(n % 3), 1, **KINDS[kind]) for n, kind in enumerate(kinds)]
    images = [ImageRecord(ImageId(n), f"{n}.png", 20, 20) for n in range(3)]
    return validate(Records(images, [Category(1, "a")], boxes), "x.json")


@given(st.lists(st.sampled_from(sorted(KINDS)), max_size=12))
def test_every_box_that_is_not_trained_on_is_counted_once(kinds):
    dataset = dataset_of(kinds)
    thin = sum(kind.startswith("thin") and "crowd" not in kind for kind in kinds)
    crowd, ignored = sum("crowd" in kind for kind in kinds), kinds.count("ignored")
    untrained = len(kinds) - kinds.count("trained")
    told = untrained_boxes(dataset)
    assert untrained == dataset.boxes - sum(int(truth.trainable.sum()) for truth in dataset.annotations.values())
    if not untrained:
        assert told == []
        return
    count = f"{untrained} of {len(kinds)} boxes of the pool are paid for and not trained on"
    assert told == [f"{count}: less than {MIN_SIDE:g} px wide or high {thin}; crowd {crowd}; ignore {ignored}"]
