"""The boxes of one annotation: every kind of region, every unit, and what is counted or refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.data.formats.label_studio_results import UNUSABLE, drawn_boxes, unit_problem, whole
from alloop.data.formats.label_studio_tasks import region
from alloop.geometry.boxes import corners_from_xywh
from tests.support.annotations import value

SIZE = (400, 200)


def boxes(*items):
    return [
        (label, [round(float(side), 6) for side in corners]) for label, corners in drawn_boxes(list(items), SIZE).boxes
    ]


def rules(*items):
    return dict(drawn_boxes(list(items), SIZE).rules)


def shape(kind, **inner):
    return {"id": "r", "type": kind, "value": inner}


def pixels_of(value_, step=0.05):
    """The extent of the points of a region, by many of them: a second, slow way."""
    x, y, w, h = (value_[key] * side / 100 for key, side in zip(("x", "y", "width", "height"), SIZE * 2, strict=True))
    angle, parts = math.radians(value_["rotation"]), np.arange(0, 1 + step, step)
    points = [
        (x + math.cos(angle) * a * w - math.sin(angle) * b * h, y + math.sin(angle) * a * w + math.cos(angle) * b * h)
        for a in parts
        for b in parts
    ]
    return [*np.min(points, axis=0), *np.max(points, axis=0)]


def test_regions_there_and_back_in_pixels():
    random = np.random.default_rng(0)
    for number in range(200):
        size = (int(random.integers(1, 5000)), int(random.integers(1, 5000)))
        low, high = np.sort(random.uniform(0, size, (2, 2)), axis=0)
        corners = (*low, *high)
        ((label, found),) = drawn_boxes([region(corners, "a b", size, number)], size).boxes
        assert label == "a b"
        assert np.allclose(found, corners, atol=1e-6)


sides = st.floats(-60, 60).filter(lambda side: abs(side) > 1)


@given(st.floats(0, 100), st.floats(0, 100), sides, sides, st.sampled_from([0, 30, 90, 200.5, -45]))
def test_a_box_drawn_in_any_direction_and_turned_covers_what_the_page_shows(x, y, w, h, degrees):
    item = value(x, y, w, h, rotation=degrees)
    drawn = drawn_boxes([item], SIZE)
    assert np.allclose(drawn.boxes[0][1], pixels_of(item["value"]), atol=1e-6)
    assert sum("turned box" in rule for rule in drawn.rules) == bool(degrees)
    assert sum("negative" in rule for rule in drawn.rules) == (w < 0 or h < 0)


def test_a_box_drawn_upwards_is_turned_round():
    assert boxes(value(10, 90, 20, -60)) == [("cat", [40, 60, 120, 180])]
    assert rules(value(10, 90, 20, -60), value(50, 50, -1, -1)) == {
        "a negative width or height; the box is turned round": 2
    }


@pytest.mark.parametrize("kind", ["choices", "textarea", "rating", "taxonomy", "number", "datetime", "pairwise"])
@pytest.mark.parametrize("inner", [{}, {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0}])
def test_answers_beside_boxes_are_left_out_and_counted_also_where_they_hang_on_a_box(kind, inner):
    answer = {"id": "r", "type": kind, "value": {kind: ["good"], **inner}}
    assert boxes(value(10, 10, 20, 20, id="r"), answer) == [("cat", [40, 20, 120, 60])]
    assert rules(value(10, 10, 20, 20), answer, answer) == {f"an entry of type {kind!r} is no box; it is left out": 2}
    assert boxes(answer) == []


def test_relations_and_entries_that_mark_no_place_are_left_out():
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    unheard = {"type": "mood", "value": {"mood": 3}}
    assert boxes(relation, unheard) == []
    assert rules(relation, unheard) == {
        "an entry of type 'relation' is no box; it is left out": 1,
        "an entry of type 'mood' is no box; it is left out": 1,
    }


def test_labels_that_stand_apart_belong_to_the_region_of_their_id():
    place = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0}
    apart = [shape("rectangle", **place), shape("labels", **place, labels=["dog"])]
    for pair in (apart, apart[::-1]):
        assert boxes(*pair) == [("dog", [40, 20, 120, 60])]
    assert boxes(apart[1]) == [("dog", [40, 20, 120, 60])], "old servers leave the bare rectangle out"
    other = [{**item, "id": "s"} for item in apart]
    assert [label for label, _ in boxes(*apart, *other)] == ["dog", "dog"]
    with pytest.raises(ValueError, match="one labeled rectangle"):
        boxes(*apart, shape("labels", **place, labels=["cat"]))


def test_two_boxes_with_one_id_are_two_boxes():
    assert len(boxes(value(1, 1, 9, 9, id="r"), value(20, 1, 9, 9, id="r", label="dog"))) == 2


def test_polygons_and_ellipses_are_read_by_their_extent():
    polygon = shape("polygonlabels", points=[[10, 50], [30, 10], [20, 70]], polygonlabels=["cat"])
    assert boxes(polygon) == [("cat", [40, 20, 120, 140])]
    ellipse = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 30, "ellipselabels": ["dog"]}
    assert boxes(shape("ellipselabels", **ellipse, rotation=0)) == [("dog", [160, 40, 240, 160])]
    assert boxes(shape("ellipselabels", **ellipse, rotation=90)) == [("dog", [140, 60, 260, 140])]
    around = np.linspace(0, 2 * np.pi, 20000)
    ((_, found),) = boxes(shape("ellipselabels", **ellipse, rotation=30))
    x, y, turn = 40 * np.cos(around), 60 * np.sin(around), math.radians(30)
    xs, ys = 200 + x * math.cos(turn) - y * math.sin(turn), 100 + x * math.sin(turn) + y * math.cos(turn)
    assert np.allclose(found, [xs.min(), ys.min(), xs.max(), ys.max()], atol=1e-3)
    assert sorted(rules(polygon, shape("ellipselabels", **ellipse)).values()) == [1, 1]


def test_points_are_left_out_beside_a_box_and_refused_alone():
    point = shape("keypointlabels", x=1, y=2, width=0.3, keypointlabels=["eye"])
    assert len(boxes(value(1, 1, 9, 9), point)) == 1
    assert rules(value(1, 1, 9, 9), point, point) == {"a point is no box; it is left out": 2}
    with pytest.raises(ValueError, match="only regions are points"):
        boxes(point)


def test_a_region_without_a_type_is_known_by_its_keys():
    place = {"x": 10, "y": 10, "width": 20, "height": 20}
    assert boxes({"value": {**place, "rectanglelabels": ["cat"]}}) == [("cat", [40, 20, 120, 60])]
    assert boxes({"value": {**place, "choices": ["good"]}}) == []
    with pytest.raises(ValueError, match="one labeled rectangle"):
        boxes({"value": place})


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (shape("brushlabels", rle=[1], format="rle", brushlabels=["cat"]), "type 'brushlabels', which is no box"),
        (shape("vectorlabels", vertices=[]), "type 'vectorlabels', which is no box"),
        (shape("videorectangle", sequence=[]), "type 'videorectangle', which is no box"),
        (shape("polygonlabels", points=[], polygonlabels=["cat"]), "polygon without points"),
        (shape("rectanglelabels", x=1, y=1, width=1, height=1, rectanglelabels=[]), r"labels \[\]; one labeled"),
        (shape("rectanglelabels", x=1, y=1, width=1, height=1, rectanglelabels=["a", "b"]), "one labeled rectangle"),
        (shape("rectanglelabels", x=1, y=1, width=1, rectanglelabels=["a"]), "no numbers"),
        (value(1, 1, math.inf, 1), "not finite"),
        (value(1, 1, 9, 9, image_rotation=90), "turned by 90 degrees on the page"),
        (value(1, 1, 9, 9, item_index=1), "another image than the first"),
        (value(1, 1, 9, 9, original_height=100), "drawn on an image of 400 x 100"),
    ],
)
def test_regions_that_are_no_labeled_box_are_refused(item, words):
    with pytest.raises(ValueError, match=words):
        boxes(item)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 500)
    | st.floats()
    | st.sampled_from(["cat", "rectanglelabels", "x", "9"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "type",
                    "value",
                    "x",
                    "y",
                    "width",
                    "height",
                    "points",
                    "labels",
                    "rectanglelabels",
                    "original_width",
                    "original_height",
                    "choices",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_garbage_is_refused_with_an_error_that_callers_expect(tree):
    try:
        drawn = drawn_boxes(tree, SIZE)
    except UNUSABLE:
        return
    assert all(math.isfinite(side) for _, corners in drawn.boxes for side in corners)
    assert all(x1 <= x2 and y1 <= y2 for _, (x1, y1, x2, y2) in drawn.boxes)


def in_per_cent(*rows, size=(640, 480)):
    w, h = size
    return [(corners_from_xywh((x * w / 100, y * h / 100, a * w / 100, b * h / 100)), size) for x, y, a, b in rows]


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([(0.5, 0.5, 0.2, 0.2)], "normalized"),
        ([(0, 0, 1, 1), (0.9, 0.9, 0.1, 0.1)], "normalized"),
        ([(0.5, 0.5, 0.2, 0.2), (10, 10, 5, 5)], ""),
        ([(5, 5, 90, 100)], ""),
        ([(90, 5, 15, 20)], ""),  # reaches over the edge
        ([(50, 60, 200, 150)], "fit as pixels"),
        ([(300, 20, 40, 40), (10, 10, 30, 30), (20, 10, 30, 30)], "fit as pixels"),
        ([(300, 20, 40, 40), *[(10, 10, 30, 30)] * 9], ""),  # one slip
        ([(700, 20, 40, 40)], ""),  # no pixel of this image
        ([], ""),
    ],
)
def test_fractions_and_pixels_are_told_from_per_cent(rows, word):
    found = unit_problem(in_per_cent(*rows))
    assert (word in found) == bool(found) if word else found == ""


@pytest.mark.parametrize(
    ("given_", "number"),
    [
        (5, 5),
        (5.0, 5),
        ("5", 5),
        (" -3 ", -3),
        (5.5, None),
        ("5.5", None),
        (True, None),
        (None, None),
        ("", None),
        (math.nan, None),
        (math.inf, None),
        ([], None),
        ("9" * 40, None),
    ],
)
def test_whole_numbers_in_every_spelling(given_, number):
    assert whole(given_) == number
