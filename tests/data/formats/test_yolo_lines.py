"""The forms of a line: box, polygon, box with keypoints; everything else is refused by file and line."""

import pytest

from alloop.data.formats.yolo_lines import LineRules, label_lines
from alloop.data.notes import Notes
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord

IMAGE = ImageRecord(ImageId(1), "a.jpg", 100, 50)


def lines_of(tmp_path, text, keypoints=0, *, is_ours=False):
    (tmp_path / "a.txt").write_bytes(text.encode())
    notes = Notes()
    rules = LineRules(keypoints, notes, is_ours)
    return list(label_lines(tmp_path / "a.txt", IMAGE, rules)), notes.listed()


def test_a_pose_line_is_a_box_by_its_first_four_numbers_and_not_a_polygon(tmp_path):
    text = "0 0.5 0.5 0.2 0.4 0.1 0.1 2 0.9 0.9 1\n"
    (line,), notes = lines_of(tmp_path, text, keypoints=6)
    assert line.bbox == pytest.approx((40, 15, 20, 20))
    assert "keypoints" in notes[0].rule
    (box,), _ = lines_of(tmp_path, "0 0.5 0.5 0.2 0.4\n", keypoints=6)
    assert box.bbox == line.bbox
    with pytest.raises(DataError, match=r"a\.txt: line 1: expected .* by kpt_shape, 4 numbers"):
        lines_of(tmp_path, text, keypoints=4)


@pytest.mark.parametrize(
    ("text", "bbox"),
    [
        ("0 0.1 0.2 0.5 0.2 0.5 0.6", (10, 10, 40, 20)),
        ("0 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6", (10, 10, 40, 20)),
        ("\ufeff0\t0.5\t0.5\t0.2\t0.4\r\n\r\n", (40, 15, 20, 20)),
        ("0 0.95 0.5 0.2 0.4", (85, 15, 20, 20)),
    ],
)
def test_boxes_and_polygons(tmp_path, text, bbox):
    (line,), notes = lines_of(tmp_path, text)
    assert (line.label, line.bbox, notes) == (0, pytest.approx(bbox), ())


def test_a_class_with_a_point_is_noted(tmp_path):
    (line,), notes = lines_of(tmp_path, "1.0 0.5 0.5 0.2 0.4")
    assert (line.label, notes[0].count) == (1, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 50 25 20 20", "these look like pixels"),
        ("0 10 10 50 10 50 30", "these look like pixels"),
        ("0,0.5,0.5,0.2,0.4", "expected 'class cx cy width height'"),
        ("0 0.5 0.5 0.2", "expected 'class cx cy width height'"),
        ("0 0.5 0.5 0.2 0.4 0.9", "expected 'class cx cy width height'"),
        ("cat 0.5 0.5 0.2 0.4", "expected 'class cx cy width height'"),
        ("0 nan 0.5 0.2 0.4", "not finite"),
        ("inf 0.5 0.5 0.2 0.4", "not finite"),
        ("0.5 0.5 0.5 0.2 0.4", "expected a whole number for the class"),
    ],
)
def test_other_lines_are_refused_by_file_and_line(tmp_path, text, words):
    with pytest.raises(DataError) as error:
        lines_of(tmp_path, f"\n{text}\n")
    assert "a.txt: line 2" in str(error.value)
    assert words in str(error.value)


def test_a_box_far_outside_comes_back_from_a_folder_of_our_own(tmp_path):
    (line,), _ = lines_of(tmp_path, "0 50 25 20 20", is_ours=True)
    assert line.bbox == pytest.approx((4000, 750, 2000, 1000))
