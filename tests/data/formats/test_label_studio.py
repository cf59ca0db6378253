"""Answers of people as an export of Label Studio: by id or by the name of the image, none lost."""

import json

import pytest

from alloop.data.formats.label_studio import LABEL_STUDIO
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord
from tests.support.annotations import value

POOL = [ImageRecord(ImageId(k), name, 400, 200) for k, name in ((12, "day/a.jpg"), (7, "b.jpg"), (8, "night/b.jpg"))]


def submissions(tmp_path, *tasks):
    (tmp_path / "answers.json").write_text(json.dumps(tasks))
    return LABEL_STUDIO.submissions(tmp_path / "answers.json", POOL, ["cat"])


def task(*regions, drafts=(), **data):
    annotation = {"id": 1, "result": list(regions), "was_cancelled": False, "completed_by": 1}
    return {"data": data, "annotations": [annotation], "drafts": list(drafts)}


def boxes(given, image_id):
    return [[box.bbox for box in submission.boxes] for submission in given.by_image[image_id].submissions]


@pytest.mark.parametrize("number", [12, "12", 12.0])
def test_tasks_belong_to_the_image_of_their_id_in_every_spelling(tmp_path, number):
    given = submissions(tmp_path, task(value(10, 10, 20, 20), alloop_id=number))
    assert boxes(given, 12) == [[(40, 20, 80, 40)]]


@pytest.mark.parametrize(
    ("address", "image_id"),
    [("/data/upload/1/0123abcd-a.jpg", 12), ("/data/local-files/?d=photos/day/a.jpg", 12), ("night/b.jpg", 8)],
)
def test_tasks_without_an_id_belong_to_the_image_of_their_name(tmp_path, address, image_id):
    assert set(submissions(tmp_path, task(image=address)).by_image) == {image_id}


def test_names_and_ids_that_belong_to_no_image_are_told(tmp_path):
    given = submissions(tmp_path, task(image="cat.jpg"), task(alloop_id=99, file_name="c.jpg"), task(alloop_id=98))
    assert sorted(given.unknown) == ["98", "c.jpg", "cat.jpg"]
    assert given.by_image == {}


def test_a_name_that_may_mean_two_images_is_refused_with_both(tmp_path):
    with pytest.raises(DataError, match=r"'old/b.jpg' may mean 'b.jpg', 'night/b.jpg'"):
        submissions(tmp_path, task(image="old/b.jpg"))


def test_two_tasks_of_an_image_are_one_with_all_their_annotations(tmp_path):
    first, second = task(value(10, 10, 20, 20), alloop_id=7), task(alloop_id="7", drafts=[{"result": []}])
    given = submissions(tmp_path, first, second)
    assert boxes(given, 7) == [[(40, 20, 80, 40)], []]
    assert given.by_image[7].has_draft


def test_what_was_read_leniently_is_the_remark_of_the_answer(tmp_path):
    regions = [value(10, 90, 20, -20), value(10, 90, 20, -20), {"type": "choices", "value": {}}]
    (submission,) = submissions(tmp_path, task(*regions, alloop_id=12)).by_image[12].submissions
    assert submission.boxes[0].bbox == pytest.approx((40, 140, 80, 40))
    assert submission.remark == (
        "a negative width or height; the box is turned round (2 times); "
        "an entry of type 'choices' is no box; it is left out"
    )


@pytest.mark.parametrize(
    ("regions", "problem"),
    [
        ([value(0.1, 0.2, 0.3, 0.4)], "normalized"),
        ([value(120, 80, 200, 100)], "fit as pixels"),
        ([{"type": "brushlabels", "value": {"rle": [1]}}], "which is no box"),
        ([3], "its result holds '3', which is no region"),
    ],
)
def test_what_cannot_be_used_is_the_problem_of_its_submission_alone(tmp_path, regions, problem):
    given = submissions(tmp_path, task(*regions, alloop_id=12), task(value(10, 10, 20, 20), alloop_id=7))
    assert problem in given.by_image[12].submissions[0].problem
    assert given.by_image[12].submissions[0].boxes == ()
    assert given.by_image[7].submissions[0].problem == ""


@pytest.mark.parametrize("data", [{}, {"text": "hello"}, {"alloop_id": "x"}])
def test_a_task_that_names_no_image_is_named(tmp_path, data):
    with pytest.raises(DataError, match=r"answers\.json: task 5 cannot be used: no key of its data names an image"):
        submissions(tmp_path, {"id": 5, **task(**data)})
