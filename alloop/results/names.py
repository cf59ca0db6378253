"""The names of metrics and tests. Nothing is imported here but typing, so that `alloop --help` starts at once."""

from typing import Literal, get_args

Metric = Literal["ap", "ap50", "ap75"]
METRICS: tuple[Metric, ...] = get_args(Metric)

Test = Literal["t", "permutation", "wilcoxon"]
TESTS: tuple[Test, ...] = get_args(Test)


def metric_title(metric: str) -> str:
    """Return a metric as it is written in texts: `AP50` for `ap50`, `mask AP` for `mask_ap`."""
    return metric.replace("_", " ").replace("ap", "AP")
