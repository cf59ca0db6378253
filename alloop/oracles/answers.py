"""From what people drew, in any format, to an answer: labels by name, boxes in pixels, everything validated."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alloop.data.formats.cvat import Corners
from alloop.data.formats.label_studio import corners_of
from alloop.data.records import Box, Category, Image, Records, find_problems, validate
from alloop.errors import DataError
from alloop.oracles.oracle import Answer, PreAnnotations, edits
from alloop.values import Annotations, ImageId, ImageRecord

DrawnBox = tuple[str, Corners, int]  # label, corners in pixels, crowd
Policy = Literal["newest", "hold"]


def answer_of_boxes(
    image: ImageRecord, drawn: Sequence[DrawnBox], class_names: Sequence[str], work: Mapping[str, float] | None = None
) -> Answer:
    """The answer that so many boxes are; invalid, with the reason, where a label or a number cannot be used."""
    ids = {name: label for label, name in enumerate(class_names)}
    unknown = sorted({name for name, _, _ in drawn} - ids.keys())
    if unknown:
        return Answer("invalid", None, work or {}, f"label {unknown[0]!r} is not among the classes")
    boxes = [
        Box(k, int(image.image_id), ids[name], (x1, y1, x2 - x1, y2 - y1), crowd)
        for k, (name, (x1, y1, x2, y2), crowd) in enumerate(drawn)
    ]
    shape = Image(int(image.image_id), image.file_name, image.width, image.height)
    records = Records([shape], [Category(label, name) for name, label in ids.items()], boxes)
    try:
        annotations = validate(records, image.file_name).annotations[image.image_id]
    except DataError as error:
        return Answer("invalid", None, work or {}, str(error).splitlines()[-1].strip())
    noted = [f"{problem.verdict}: {problem.reason}" for problem in find_problems(records, image.file_name)]
    return Answer("done", annotations, work or {}, "; ".join(noted))


def answers_of_records(
    records: Records, images: Sequence[ImageRecord], class_names: Sequence[str]
) -> dict[ImageId, Answer]:
    """Answers for the images that a file holds, matched by name, or by its last part where that is clear."""
    named = {image.file_name: image for image in images}
    shorts = Counter(image.file_name.rpartition("/")[2] for image in images)
    short = {name: image for image in images if shorts[name := image.file_name.rpartition("/")[2]] == 1}
    categories = {category.id: category.name for category in records.categories}
    by_image: dict[int, list[Box]] = {image.id: [] for image in records.images}
    for box in records.annotations:
        by_image.setdefault(box.image_id, []).append(box)
    found = {}
    for read in records.images:
        image = named.get(read.file_name) or short.get(read.file_name.rpartition("/")[2])
        if image is None:
            continue
        if (read.width, read.height) != (image.width, image.height):
            reason = f"drawn on {read.width} x {read.height} pixels, the pool says {image.width} x {image.height}"
            found[image.image_id] = Answer("invalid", remark=reason)
            continue
        drawn = [
            (categories.get(b.category_id, f"category {b.category_id}"), _corners(b), b.iscrowd)
            for b in by_image[read.id]
        ]
        found[image.image_id] = answer_of_boxes(image, drawn, class_names)
    return found


def _corners(box: Box) -> Corners:
    x, y, w, h = box.bbox
    return x, y, x + w, y + h


@dataclass(frozen=True, slots=True)
class Reading:
    """How Label Studio's tasks are read: what to do where people disagree, seconds where none were reported."""

    class_names: Sequence[str]
    policy: Policy = "newest"
    default_seconds: float = 0.0


def answer_of_task(task: Mapping[str, Any], image: ImageRecord, reading: Reading) -> Answer:
    """Where one task stands. Skips are looked for first: a skipped task may hold the boxes that were shown."""
    annotations = [a for a in task.get("annotations") or [] if isinstance(a, dict)]
    work = {_name(a): _seconds(a, reading.default_seconds) for a in annotations}
    newest = list({_person(a): a for a in sorted(annotations, key=_when)}.values())
    drawn = [a for a in newest if not a.get("was_cancelled")]
    if not drawn:
        state: Literal["skipped", "draft", "todo"] = "todo"
        if newest:
            state = "skipped"
        elif task.get("drafts"):
            state = "draft"
        return Answer(state, None, work)
    answers = [_answer_of(a, image, reading, work) for a in sorted(drawn, key=_when)]
    last = answers[-1]
    bad = [answer for answer in answers if answer.annotations is None]
    if bad:
        return bad[-1]
    if reading.policy == "hold" and not all(_agree(a.annotations, last.annotations) for a in answers[:-1]):
        return Answer("conflict", None, work, f"{len(answers)} people disagree")
    untimed = any(a.get("lead_time") is None for a in annotations)
    remark = "; ".join(filter(None, [last.remark, "no time was reported" if untimed else ""]))
    return Answer("done", last.annotations, work, remark)


def _answer_of(
    annotation: Mapping[str, Any], image: ImageRecord, reading: Reading, work: Mapping[str, float]
) -> Answer:
    result = annotation.get("result")
    if not isinstance(result, list):
        return Answer("invalid", None, work, f"its result is {result!r}, not a list of boxes")
    drawn: list[DrawnBox] = []
    turned = 0
    for item in result:
        try:
            label, corners = corners_of(item, (image.width, image.height))
        except (ValueError, AttributeError) as error:
            return Answer("invalid", None, work, str(error))
        turned += bool(item["value"].get("rotation"))
        drawn.append((label, corners, 0))
    answer = answer_of_boxes(image, drawn, reading.class_names, work)
    if turned:
        remark = "; ".join(filter(None, [answer.remark, f"{turned} turned boxes were taken by their extent"]))
        return Answer(answer.state, answer.annotations, work, remark)
    return answer


def _name(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("unique_id") or f"annotation {annotation.get('id')}")


def _person(annotation: Mapping[str, Any]) -> str:
    who = annotation.get("completed_by")
    return str(who.get("id") if isinstance(who, dict) else who)


def _when(annotation: Mapping[str, Any]) -> tuple[str, int]:
    return str(annotation.get("updated_at", "")), int(annotation.get("id") or 0)


def _seconds(annotation: Mapping[str, Any], default: float) -> float:
    found = annotation.get("lead_time")
    return float(found) if isinstance(found, int | float) and 0 <= found < float("inf") else default


def _agree(a: Annotations | None, b: Annotations | None) -> bool:
    """The same boxes by overlap, with the same labels."""
    if a is None or b is None or sorted(a.labels.tolist()) != sorted(b.labels.tolist()):
        return False
    found = edits(PreAnnotations(a.boxes, a.labels, a.boxes[:, 0]), b)
    return not found.deleted and not found.added
