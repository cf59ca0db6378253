"""The names of metrics and tests. Nothing is imported here but typing, so that `alloop --help` starts at once."""

from collections.abc import Mapping
from typing import Literal, get_args

Metric = Literal["ap", "ap50", "ap75", "voc_ap50", "voc07_ap50", "accuracy", "mean_class_accuracy", "top5_accuracy"]
METRICS: tuple[Metric, ...] = ("ap", "ap50", "ap75")  # the columns of tables; those of Pascal VOC are asked for by name
ACCURACIES: tuple[Metric, ...] = ("accuracy", "mean_class_accuracy", "top5_accuracy")
UNITS: Mapping[str, str] = {"detection": "boxes", "classification": "labels"}  # what is paid for, by task

Test = Literal["t", "permutation", "wilcoxon"]
TESTS: tuple[Test, ...] = get_args(Test)


def measured(task: str) -> tuple[Metric, ...]:
    """Return the metrics of a task in the order of tables; the first is the one that curves are drawn of."""
    return ACCURACIES if task == "classification" else METRICS


def columns(metric: Metric) -> tuple[Metric, ...]:
    """Return the metrics of a table of a comparison by `metric`."""
    task = next((metrics for metrics in (METRICS, ACCURACIES) if metric in metrics), None)
    return (*METRICS, metric) if task is None else task


def metric_title(metric: str) -> str:
    """Return a metric as it is written in texts: `AP50` for `ap50`, `mask AP` for `mask_ap`, `VOC07 AP50`."""
    return metric.replace("_", " ").replace("ap", "AP").replace("voc", "VOC")
