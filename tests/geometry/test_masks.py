"""Masks against pycocotools, whose decoder is only handed what was checked before."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from alloop.errors import DataError
from alloop.geometry.masks import decode_mask, decode_masks, decode_patch, encode_mask, resized_mask, scaled_masks
from alloop.values import ImageId, ImageRecord


def rle(height, width, counts):
    return json.dumps({"size": [height, width], "counts": counts}).encode()


def polygon(*points):
    return json.dumps([[number for point in points for number in point]]).encode()


@pytest.mark.parametrize("density", [0, 0.02, 0.4, 0.9, 1])
@pytest.mark.parametrize("seed", range(8))
def test_plain_and_packed_runs_are_read_as_pycocotools_reads_them(seed, density):
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 60, 2).tolist()
    mask = (random.random((height, width)) < density).astype(np.uint8)
    packed = coco_mask.encode(np.asfortranarray(mask))
    for text in (encode_mask(mask), rle(height, width, packed["counts"].decode())):
        assert np.array_equal(decode_mask(text, width, height, "m"), coco_mask.decode(packed))


def test_plain_counts_are_those_of_the_coco_format():
    mask = np.array([[1, 0, 0], [1, 0, 1]], dtype=np.uint8)
    assert json.loads(encode_mask(mask)) == {"size": [2, 3], "counts": [0, 2, 3, 1]}
    assert json.loads(encode_mask(1 - mask)) == {"size": [2, 3], "counts": [2, 3, 1]}


def test_empty_runs_change_nothing():
    assert np.array_equal(
        decode_mask(rle(2, 3, [0, 1, 0, 1, 1, 0, 0, 1, 2]), 3, 2, "m"),
        decode_mask(rle(2, 3, [0, 2, 1, 1, 2]), 3, 2, "m"),
    )


def test_a_patch_is_the_smallest_rectangle_around_a_mask():
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[4:7, 10:12] = 1
    mask[5, 14] = 1
    patch = decode_patch(encode_mask(mask), 30, 20, "m")
    assert (patch.left, patch.top, patch.mask.shape) == (10, 4, (3, 5))
    assert np.array_equal(patch.mask, mask[4:7, 10:15])


def test_a_small_mask_on_a_huge_canvas_costs_only_its_columns():
    side = 60_000
    start = 30_000 * side + 7
    patch = decode_patch(rle(side, side, [start, 5, side * side - start - 5]), side, side, "m")
    assert (patch.left, patch.top, patch.mask.tolist()) == (30_000, 7, [[1], [1], [1], [1], [1]])
    with pytest.raises(DataError, match="too large"):
        decode_patch(rle(20_000, 20_000, [0, 20_000**2]), 20_000, 20_000, "m")


def test_polygons_cover_their_outline_and_are_cut_to_the_image():
    assert decode_mask(polygon((1, 1), (3, 1), (3, 2), (1, 2)), 5, 4, "m").tolist() == [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]
    assert decode_mask(polygon((-9, -9), (99, -9), (99, 99), (-9, 99)), 5, 4, "m").all()
    assert not decode_mask(b"[]", 5, 4, "m").any()


@pytest.mark.parametrize(
    "text",
    [
        rle(4, 5, [19]),
        rle(4, 5, [21]),
        rle(4, 5, [-1, 21]),
        rle(4, 5, [2**62, 2**62]),
        rle(4, 5, [[20]]),
        rle(5, 4, [20]),
        rle(4, 5, "oooo"),
        rle(4, 5, "0\u2603"),
        rle(4, 5, None),
        b"[[1, 2, 3]]",
        b"[[1, 2, null, 4]]",
        b"[1, 2]",
        b"[{}]",
        b"17",
        b"nonsense",
    ],
)
def test_what_would_crash_the_decoder_is_refused_by_name(text):
    with pytest.raises(DataError, match="record 7"):
        decode_patch(text, 5, 4, "record 7")


def test_a_record_without_a_mask_is_named():
    with pytest.raises(DataError, match="image 3, annotation 2"):
        decode_masks([encode_mask(np.ones((4, 5), dtype=np.uint8)), None], 5, 4, "image 3")


def test_masks_are_resized_with_their_image():
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[:2, :3] = 1
    record = ImageRecord(ImageId(1), "a.png", 6, 4)
    small = scaled_masks([encode_mask(mask)], record, 3, 2)
    assert small.tolist() == [[[1, 0, 0], [0, 0, 0]]], "rows 1 and 3, columns 1, 3 and 5"
    assert scaled_masks([], record, 3, 2).shape == (0, 2, 3)
    assert resized_mask(mask, 6, 4) is mask


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"size":[2,3],"counts":[1,2,3]}', [[0, 1, 0], [1, 0, 0]]),
        (b'{"size":[2,3],"counts":"123"}', [[0, 1, 0], [1, 0, 0]]),
        (b"[[0,0,2,0,2,1,0,1]]", [[1, 1, 1], [1, 1, 1]]),
    ],
)
def test_masks_are_decoded(text, expected):
    assert decode_mask(text, 3, 2, "x").tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        b'{"size":[3,2],"counts":[6]}',
        b'{"size":[2,3],"counts":[7]}',
        b'{"size":[2,3],"counts":[-1,7]}',
        b'{"size":[2,3],"counts":"\\u00ff"}',
        b'{"counts":[6]}',
        b"[[0,0,2]]",
        b"[[0,0,1e300,1,2,2]]",
        b'"x"',
        b"7",
    ],
)
def test_broken_masks_are_refused_with_their_place(text):
    with pytest.raises(DataError, match="image 9"):
        decode_mask(text, 3, 2, "image 9")


def test_packed_masks_equal_pycocotools():
    from pycocotools import mask as reference

    chance = np.random.default_rng(0)
    for _ in range(50):
        mask = np.asfortranarray((chance.random((17, 23)) < chance.random()).astype(np.uint8))
        packed = reference.encode(mask)["counts"].decode()
        import json

        text = json.dumps({"size": [17, 23], "counts": packed}).encode()
        assert np.array_equal(decode_mask(text, 23, 17, "x"), mask)
