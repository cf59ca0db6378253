"""Submissions become one answer: the newest of each person, skips first, errors before boxes."""

import math

import pytest

from alloop.data.submissions import DrawnBox, ImageSubmissions, Submission, WorkTime
from alloop.oracles.answers import AnswerRules, answer_of
from alloop.values import ImageId, ImageRecord

IMAGE = ImageRecord(ImageId(3), "a.jpg", 200, 100)
BOX = DrawnBox("dog", (10.0, 20.0, 30.0, 40.0))
RULES = AnswerRules(["cat", "dog"], default_seconds=7.0)


def answer(*submissions, rules=RULES, **more):
    return answer_of(ImageSubmissions(submissions, **more), IMAGE, rules)


def by(person, day, *boxes, **more):
    return Submission(tuple(boxes), person=person, order=(f"2026-01-{day:02d}", day), **more)


def test_nothing_handed_in_is_todo_or_a_draft():
    assert answer().state == "todo"
    assert answer(has_draft=True).state == "draft"
    assert answer(by("a", 1, is_skip=True), has_draft=True).state == "skipped"


def test_boxes_become_corners_and_labels():
    done = answer(by("a", 1, BOX))
    assert done.state == "done"
    assert done.annotations.boxes.tolist() == [[10, 20, 40, 60]]
    assert done.annotations.labels.tolist() == [1]
    assert len(answer(by("a", 1)).annotations) == 0, "no box is an answer too"


def test_of_one_person_the_newest_counts_in_whatever_order_they_are_listed():
    first, second = by("a", 1), by("a", 2, BOX)
    assert len(answer(first, second).annotations) == len(answer(second, first).annotations) == 1
    assert answer(by("a", 2, is_skip=True), by("a", 1, BOX)).state == "skipped"


def test_of_several_people_the_newest_counts_unless_the_policy_holds():
    moved = DrawnBox("dog", (120.0, 20.0, 30.0, 40.0))
    one, two = by("a", 1, BOX), by("b", 2, moved)
    assert answer(two, one).annotations.boxes[0, 0] == 120
    hold = AnswerRules(["cat", "dog"], "hold")
    assert (answer(two, one, rules=hold).state, answer(two, one, rules=hold).remark) == (
        "conflict",
        "2 people disagree",
    )
    assert answer(one, by("b", 2, DrawnBox("dog", (11.0, 20.0, 30.0, 40.0))), rules=hold).state == "done"
    assert answer(one, by("b", 2, DrawnBox("cat", BOX.bbox)), rules=hold).state == "conflict"


@pytest.mark.parametrize(
    ("submission", "remark"),
    [
        (by("a", 1, DrawnBox("cow", BOX.bbox)), "label 'cow' is not among the classes"),
        (by("a", 1, DrawnBox("cat", (math.nan, 0.0, 1.0, 1.0))), "not finite"),
        (by("a", 1, BOX, problem="its result is None"), "its result is None"),
        (by("a", 1, DrawnBox("cat", BOX.bbox, iscrowd=2)), "iscrowd: expected 0 or 1, found 2"),
    ],
)
def test_one_unusable_submission_makes_the_answer_invalid(submission, remark):
    newest = by("b", 2, BOX)
    for invalid in (answer(submission), answer(submission, newest)):
        assert invalid.state == "invalid"
        assert invalid.annotations is None
        assert remark in invalid.remark


def test_findings_and_remarks_are_handed_on():
    done = answer(by("a", 1, DrawnBox("dog", (180.0, 20.0, 30.0, 40.0)), remark="1 turned boxes"))
    assert done.remark.startswith("clipped: bbox")
    assert done.remark.endswith("; 1 turned boxes")


@pytest.mark.parametrize(
    ("seconds", "booked", "remark"),
    [(3.5, 3.5, ""), (None, 7.0, "no time was reported"), (-1.0, 7.0, ""), (math.nan, 7.0, ""), (math.inf, 7.0, "")],
)
def test_work_is_booked_by_its_name_with_a_default(seconds, booked, remark):
    done = answer(by("a", 1, BOX, work=WorkTime("u1", seconds)))
    assert (done.work, done.remark) == ({"u1": booked}, remark)
    skipped = answer(by("a", 1, is_skip=True, work=WorkTime("u1", seconds)))
    assert skipped.work == {"u1": booked}, "a skip took time as well"
