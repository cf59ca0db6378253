"""From what people handed in to an answer: every box validated, skips and disagreement decided by fixed rules."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alloop.data.formats.label_studio_tasks import submissions_of_task
from alloop.data.records import Box, Category, Records
from alloop.data.submissions import DrawnBox, ImageSubmissions, Submission
from alloop.data.validation import validate
from alloop.errors import DataError
from alloop.oracles.oracle import Answer, PreAnnotations, State, edits
from alloop.values import Annotations, ImageRecord

Policy = Literal["newest", "hold"]


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """How submissions become an answer.

    Attributes:
        class_names: in label order; other labels make a submission invalid.
        policy: what holds where people disagree: `newest` takes the newest submission, `hold` leaves a conflict.
        default_seconds: booked for a piece of work whose time was not reported.
    """

    class_names: Sequence[str]
    policy: Policy = "newest"
    default_seconds: float = 0.0


def answer_of(given: ImageSubmissions, image: ImageRecord, rules: AnswerRules) -> Answer:
    """Return the answer that the submissions for one image amount to.

    Only the newest submission of each person counts. Skips are looked at first: a skipped task may hold the boxes
    that were shown.
    """
    work = _work(given.submissions, rules.default_seconds)
    newest = {submission.person: submission for submission in sorted(given.submissions, key=_order)}
    drawn = sorted((submission for submission in newest.values() if not submission.is_skip), key=_order)
    if not drawn:
        return Answer(_state_without_boxes(given), None, work)
    answers = [_validated(submission, image, rules.class_names, work) for submission in drawn]
    invalid = [answer for answer in answers if answer.annotations is None]
    if invalid:
        return invalid[-1]
    answer = _POLICIES[rules.policy](answers)
    is_untimed = any(s.work is not None and s.work.seconds is None for s in given.submissions)
    if answer.annotations is None or not is_untimed:
        return answer
    return dataclasses.replace(answer, remark=_joined(answer.remark, "no time was reported"))


def answer_of_task(task: Mapping[str, Any], image: ImageRecord, rules: AnswerRules) -> Answer:
    """Return the answer that a task of Label Studio holds."""
    return answer_of(submissions_of_task(task, (image.width, image.height)), image, rules)


def _order(submission: Submission) -> tuple[str, int]:
    return submission.order


def _work(submissions: Sequence[Submission], default_seconds: float) -> dict[str, float]:
    """Return the seconds of each piece of work; the default where none or none that can be used were reported."""
    seconds = {s.work.name: s.work.seconds for s in submissions if s.work is not None}
    return {
        name: number if number is not None and 0 <= number < math.inf else default_seconds
        for name, number in seconds.items()
    }


def _state_without_boxes(given: ImageSubmissions) -> State:
    if given.submissions:
        return "skipped"
    return "draft" if given.has_draft else "todo"


def _validated(
    submission: Submission, image: ImageRecord, class_names: Sequence[str], work: Mapping[str, float]
) -> Answer:
    """Return a finished answer, or an invalid one with the reason."""
    unknown = sorted({box.label for box in submission.boxes} - set(class_names))
    problem = submission.problem or (f"label {unknown[0]!r} is not among the classes" if unknown else "")
    if problem:
        return Answer("invalid", None, work, _joined(problem, submission.remark))
    records = _records(submission.boxes, image, class_names)
    try:
        dataset = validate(records, image.file_name)
    except DataError as error:
        return Answer("invalid", None, work, _joined(str(error).splitlines()[-1].strip(), submission.remark))
    findings = [f"{problem.verdict}: {problem.reason}" for problem in dataset.problems]
    return Answer("done", dataset.annotations[image.image_id], work, _joined(*findings, submission.remark))


def _records(boxes: Sequence[DrawnBox], image: ImageRecord, class_names: Sequence[str]) -> Records:
    labels = {name: label for label, name in enumerate(class_names)}
    categories = [Category(label, name) for name, label in labels.items()]
    drawn = [
        Box(number, image.image_id, labels[box.label], box.bbox, box.iscrowd, ignore=box.ignore)
        for number, box in enumerate(boxes)
    ]
    return Records([image], categories, drawn)


def _joined(*remarks: str) -> str:
    return "; ".join(filter(None, remarks))


def _newest(answers: Sequence[Answer]) -> Answer:
    return answers[-1]


def _unanimous(answers: Sequence[Answer]) -> Answer:
    """Return the newest answer if all others agree with it, else a conflict."""
    newest = answers[-1]
    if all(_agree(answer.annotations, newest.annotations) for answer in answers[:-1]):
        return newest
    return Answer("conflict", None, newest.work, f"{len(answers)} people disagree")


_POLICIES: dict[Policy, Callable[[Sequence[Answer]], Answer]] = {"newest": _newest, "hold": _unanimous}


def _agree(a: Annotations | None, b: Annotations | None) -> bool:
    """Return whether two answers hold the same boxes by overlap, with the same labels."""
    if a is None or b is None or sorted(a.labels.tolist()) != sorted(b.labels.tolist()):
        return False
    changes = edits(PreAnnotations(a.boxes, a.labels, a.boxes[:, 0]), b)
    return not changes.deleted and not changes.added
