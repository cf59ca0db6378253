"""Signs that a study cannot answer the question, and what to change. Each is one sentence."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from alloop.results.limits import NOISE, Limit, Point, Sign, fallen, names_of, points_of
from alloop.results.names import Metric, metric_title
from alloop.results.runs import Run

NEARLY_ALL = 0.8  # share of the pool that is so large that its AP is close to that of all labels anyway


def study_limits(runs: Sequence[Run], metric: Metric) -> list[str]:
    """Return what limits a study: what limits its runs, and whether more labels would help at all.

    AP of single runs falls by chance, so a fall is reported of the mean over the seeds of a strategy.
    """
    seen = [(run.name, limit) for run in runs for limit in run.limits if limit.sign is not Sign.FALLEN]
    strategies = dict.fromkeys(run.strategy for run in runs if not run.full_label)
    names = names_of([record for run in runs for record in run.rounds])
    falls = [(name, limit) for name in strategies for limit in fallen(_mean_points(runs, name), names)]
    return [*_folded([*seen, *falls]), *_hardly_better(runs, metric)]


def _folded(seen: Iterable[tuple[str, Limit]]) -> Iterator[str]:
    """Return one sentence for each sign: its first case, and how many other runs or strategies show it."""
    cases: dict[Sign, list[tuple[str, str]]] = {}
    for name, limit in seen:
        cases.setdefault(limit.sign, []).append((name, limit.sentence))
    for (name, sentence), *others in cases.values():
        further = list(dict.fromkeys(other for other, _ in others if other != name))
        more = f" The same in {', '.join(further)}." if further else ""
        yield f"{name}: {sentence}.{more}"


def _mean_points(runs: Sequence[Run], strategy: str) -> list[Point]:
    """Return the mean point of each round that all seeds of a strategy have."""
    curves = [points_of(run.rounds) for run in runs if run.strategy == strategy]
    return [
        (round(np.mean([boxes for boxes, _ in points])), float(np.mean([value for _, value in points])))
        for points in zip(*curves, strict=False)
    ]


def _hardly_better(runs: Sequence[Run], metric: Metric) -> list[str]:
    """Say where a training on all labels is hardly better than random's last round."""
    random, full = (_ends(runs, strategy, metric) for strategy in ("random", "full_label"))
    if not random or not full:
        return []
    (images, some), (all_images, every) = (np.mean(ends, axis=0) for ends in (random, full))
    share = images / all_images
    if share > NEARLY_ALL or every - some > NOISE:
        return []
    title, last = metric_title(metric), f"random's last round has {some:.3f} with {share:.0%} of the images"
    figures = f"With all labels {title} is {every:.3f}, and {last}"
    change = "compare with fewer labels, or train for more steps"
    return [f"{figures}: more labels hardly help this training, so no strategy can gain much at its end; {change}."]


def _ends(runs: Sequence[Run], strategy: str, metric: Metric) -> list[tuple[int, float]]:
    """Return images and metric of the last round of each run of a strategy."""
    ends = [run.rounds[-1] for run in runs if run.strategy == strategy and run.rounds]
    return [(end.images, value) for end in ends if (value := end.metrics[metric]) is not None]
