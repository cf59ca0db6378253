"""The tasks by the name that a config gives them."""

from collections.abc import Mapping

from alloop.config.reading import ExperimentConfig
from alloop.tasks.classification import Classification
from alloop.tasks.detection import Detection
from alloop.tasks.task import Task

TASKS: Mapping[str, Task] = {task.name: task for task in (Detection(), Classification())}


def task_of(config: ExperimentConfig) -> Task:
    """Return the task of an experiment."""
    return TASKS[config.task]
