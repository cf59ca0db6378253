"""The names of metrics and tests. Nothing is imported here but typing, so that `alloop --help` starts at once."""

from typing import Literal, get_args

Metric = Literal["ap", "ap50", "ap75", "voc_ap50", "voc07_ap50"]
METRICS: tuple[Metric, ...] = ("ap", "ap50", "ap75")  # the columns of tables; those of Pascal VOC are asked for by name

Test = Literal["t", "permutation", "wilcoxon"]
TESTS: tuple[Test, ...] = get_args(Test)


def columns(metric: Metric) -> tuple[Metric, ...]:
    """Return the metrics of a table of a comparison by `metric`."""
    return METRICS if metric in METRICS else (*METRICS, metric)


def metric_title(metric: str) -> str:
    """Return a metric as it is written in texts: `AP50` for `ap50`, `mask AP` for `mask_ap`, `VOC07 AP50`."""
    return metric.replace("_", " ").replace("ap", "AP").replace("voc", "VOC")
