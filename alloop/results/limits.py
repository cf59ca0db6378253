"""Signs that the rounds of a run or a study cannot answer the question, and what to change. Each is one sentence."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from alloop.ledger.store import RoundRecord
from alloop.results.names import Metric

if TYPE_CHECKING:
    from alloop.results.runs import Run  # `alloop status` needs none

NOISE = 0.01  # AP by which equal trainings differ, about
MOSTLY = 0.5  # share of the chosen images with one utility above which it is reported
NEARLY_ALL = 0.8  # share of the pool that is so large that its AP is close to that of all labels anyway


def run_limits(rounds: Sequence[RoundRecord], utilities: Sequence[tuple[int, float]]) -> list[str]:
    """Return what limits one run.

    Args:
        rounds: the finished rounds.
        utilities: (round, utility) of each image that the strategy chose; a seed set is not among them.
    """
    points = [(record, value) for record in rounds if (value := record.metrics["ap"]) is not None]
    return [*_nothing_found(points), *_fallen(points), *_tied(utilities)]


def _nothing_found(points: Sequence[tuple[RoundRecord, float]]) -> Iterator[str]:
    if points and not any(value for _, value in points):
        change = "train longer (training.iterations), on larger images, or from pretrained weights"
        yield f"AP is 0 in every round, so the detector finds nothing and a strategy has nothing to go by; {change}"


def _fallen(points: Sequence[tuple[RoundRecord, float]]) -> Iterator[str]:
    """Say where AP fell by more than equal trainings differ, although labels were added."""
    if len(points) < 2:
        return
    last, now = points[-1]
    best, then = max(points[:-1], key=lambda point: point[1])
    if now < then - 2 * NOISE and last.boxes > best.boxes:
        fell = f"AP fell from {then:.3f} to {now:.3f} while boxes rose from {best.boxes} to {last.boxes}"
        yield f"{fell}: this training does not make use of more labels; raise training.iterations, or give epochs"


def _tied(utilities: Sequence[tuple[int, float]]) -> Iterator[str]:
    """Say in which last round most of the chosen images had one utility, so that chance decided among them."""
    line = None
    for round_, group in groupby(utilities, key=lambda row: row[0]):
        values, counts = np.unique([utility for _, utility in group], return_counts=True)
        most, total = int(counts.max()), int(counts.sum())
        if total > 1 and most > MOSTLY * total:
            value = values[counts.argmax()]
            line = f"{most} of the {total} images chosen after round {round_} have the utility {value:.3g}"
    if line is not None:
        yield f"{line}: among them chance decided; look at the parameters of the strategy, or train longer"


def study_limits(runs: Sequence["Run"], metric: Metric) -> list[str]:
    """Return what limits a study that also trained on all labels: random's last round is hardly worse."""
    random, full = (_ends(runs, strategy, metric) for strategy in ("random", "full_label"))
    if not random or not full:
        return []
    (images, some), (all_images, every) = (np.mean(ends, axis=0) for ends in (random, full))
    share = images / all_images
    if share > NEARLY_ALL or every - some > NOISE:
        return []
    figures = (
        f"With all labels it is {every:.3f}, and random's last round has {some:.3f} with {share:.0%} of the images"
    )
    change = "compare with fewer labels, or train for more steps"
    return [f"{figures}: more labels hardly help this training, so no strategy can gain much at its end; {change}."]


def _ends(runs: Sequence["Run"], strategy: str, metric: Metric) -> list[tuple[int, float]]:
    """Return images and metric of the last round of each run of a strategy."""
    ends = [run.rounds[-1] for run in runs if run.strategy == strategy and run.rounds]
    return [(end.images, value) for end in ends if (value := end.metrics[metric]) is not None]
