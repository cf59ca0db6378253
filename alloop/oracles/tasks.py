"""Annotation tasks as the annotation formats write them."""

from collections.abc import Sequence

from alloop.data.formats.label_studio_tasks import task_trees
from alloop.data.records import Box, Category, Records
from alloop.geometry.boxes import xywh_from_corners
from alloop.oracles.oracle import Task
from alloop.values import ImageId


def records_of(tasks: Sequence[Task], class_names: Sequence[str]) -> Records:
    """Return the images of the tasks as an annotation file; its boxes are the pre-annotations."""
    boxes: list[Box] = []
    for task in tasks:
        if task.pre_annotations is None:
            continue
        for corners, label in zip(
            task.pre_annotations.boxes.tolist(), task.pre_annotations.labels.tolist(), strict=True
        ):
            boxes.append(Box(len(boxes) + 1, task.image.image_id, int(label), xywh_from_corners(tuple(corners))))
    categories = [Category(label, name) for label, name in enumerate(class_names)]
    return Records([task.image for task in tasks], categories, boxes)


def scores_of(tasks: Sequence[Task]) -> dict[ImageId, list[float]]:
    """Return the confidences of the pre-annotations, for each image that has pre-annotations, possibly none."""
    return {
        task.image.image_id: task.pre_annotations.scores.tolist() for task in tasks if task.pre_annotations is not None
    }


def task_tree(task: Task, class_names: Sequence[str], model_version: str) -> dict[str, object]:
    """Return a task with its pre-annotations as Label Studio imports it."""
    return task_trees(records_of([task], class_names), scores_of([task]), model_version)[0]
