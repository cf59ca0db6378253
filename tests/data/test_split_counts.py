"""Counts of classes equal those that a data set counts for itself, and those of a slow count."""

from hypothesis import given
from hypothesis import strategies as st

from alloop.data.records import Box, Category, Records
from alloop.data.split_counts import counted
from alloop.data.validation import validate
from alloop.values import ImageId, ImageRecord

BOXES = st.lists(st.tuples(st.integers(0, 8), st.sampled_from([4, 2]), st.booleans()), max_size=20)


@given(BOXES, st.booleans())
def test_counts_equal_those_of_the_data_set_and_of_a_slow_count(boxes, grouped):
    images = [ImageRecord(ImageId(k), f"{k}.png", 9, 9) for k in range(9)]
    drawn = [Box(n, ImageId(k), c, (0, 0, 5, 5), int(crowd)) for n, (k, c, crowd) in enumerate(boxes)]
    free = frozenset({ImageId(8)} - {box.image_id for box in drawn})
    groups = {ImageId(k): str(k % 4) for k in range(9)} if grouped else {}
    records = Records(images, [Category(4, "a"), Category(2, "b"), Category(7, "c")], drawn, free, groups=groups)
    counts, dataset = counted(records), validate(records, "p")
    assert list(counts.boxes) == dataset.class_counts()
    assert list(counts.images) == dataset.class_images()
    slow = [len({groups.get(box.image_id, box.image_id) for box in drawn if box.category_id == c}) for c in (4, 2, 7)]
    assert list(counts.groups) == slow
    assert counts.crowds == sum(crowd for _, _, crowd in boxes)
    assert counts.labeled == 9 - len(free)
    assert counts.empty == sum(k not in free and k not in {box.image_id for box in drawn} for k in range(9))
