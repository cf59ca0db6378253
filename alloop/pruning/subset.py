"""Pruning: labels exist and there are too many. Choose the images that are worth training on.

A pruning is one query over the whole set: every image is unlabeled, and a strategy that says
`annotations: true` is given the truth.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from alloop.data.data_set import DataSet
from alloop.errors import ConfigError
from alloop.progress import Progress
from alloop.query import FittedDetector, Query
from alloop.results.class_balance import class_divergence, class_entropy
from alloop.strategy import (
    InstanceStrategy,
    Strategy,
    checked_selection,
    depends_on_count,
    parameter_names,
    uses_labels,
)
from alloop.values import ImageId, InstanceScores, Selection


@dataclass(frozen=True, slots=True)
class Pruned:
    """The outcome of a pruning.

    Attributes:
        ranking: images with their utilities, best first. It holds more images than are kept where the strategy
            ranks them all.
        count: the number of images that are kept, from the head of the ranking.
        instances: scores of the instances, from a strategy that scores them.
        seconds: the time of scoring and the time of selecting.
    """

    ranking: Selection
    count: int
    instances: InstanceScores | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> tuple[ImageId, ...]:
        """The images kept, best first."""
        return self.ranking.image_ids[: self.count]

    @property
    def scores(self) -> np.ndarray:
        """The score of each ranked image: the sum of its instances' scores, or its utility where there are none."""
        if self.instances is None:
            return self.ranking.utilities
        image_ids = np.array(sorted(self.ranking.image_ids), dtype=np.int64)
        of = dict(zip(image_ids.tolist(), self.instances.summed(image_ids).tolist(), strict=True))
        return np.array([of[i] for i in self.ranking.image_ids])


def count_of(images: int, keep: float | None, number: int | None) -> int:
    """Return how many images are kept: a share of all, rounded, or a number.

    Raises:
        ConfigError: neither or both are given, a share outside (0, 1], no image, or more than there are.
    """
    if (keep is None) == (number is None):
        msg = "give either --keep, a share such as 0.5, or --images, a number"
        raise ConfigError(msg)
    if keep is not None and not 0 < keep <= 1:
        msg = f"--keep: expected a share above 0 and at most 1, found {keep:g}"
        raise ConfigError(msg)
    count = number if number is not None else round((keep or 0) * images)
    if not 1 <= count <= images:
        asked = f"--images {number}" if number is not None else f"--keep {keep:g}"
        msg = f"{asked}: asks for {count} images, and the set has {images}; ask for 1 to {images}"
        raise ConfigError(msg)
    return count


def prune(
    dataset: DataSet,
    strategy: Strategy,
    count: int,
    random_seed: int = 0,
    *,
    detector: FittedDetector | None = None,
    progress: Progress | None = None,
    name: str = "the strategy",
) -> Pruned:
    """Ask a strategy which `count` images of an annotated set to keep.

    Args:
        dataset: the whole set.
        strategy: the strategy; it is given the truth if it says `annotations: true`.
        count: the number of images to keep.
        random_seed: the seed of all random choices.
        detector: a detector trained on the whole set, for strategies that need one.
        progress: where to report progress.
        name: the name of the strategy in errors.

    Raises:
        ConfigError: the strategy needs a detector and there is none.
        StrategyError: the strategy broke its contract, or cannot score these annotations.
    """
    if strategy.needs and detector is None:
        needs = ", ".join(sorted(strategy.needs))
        msg = f"{name} needs {needs} of a trained detector; name an experiment that trains one with --config"
        raise ConfigError(msg)
    watch = _Watch(progress or Progress(quiet=True))
    # what does not depend on the count is ranked to the end, so that every image gets its score
    asked = count if depends_on_count(strategy) else len(dataset.images)
    query = Query(
        round=0,
        unlabeled=tuple(dataset.images),
        labeled=MappingProxyType({}),
        detector=detector or NoDetector(),
        count=asked,
        random_seed=random_seed,
        sizes=MappingProxyType({i: (record.width, record.height) for i, record in dataset.images.items()}),
        truth=dataset.annotations if uses_labels(strategy) else MappingProxyType({}),
        progress=watch,
    )
    instances = strategy.instance_scores(query) if isinstance(strategy, InstanceStrategy) else None
    ranking = checked_selection(strategy, query, instances)
    return Pruned(ranking, count, instances, watch.finished())


def pruning_parameters(name: str, parameters: Mapping[str, Any], table: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters, with `annotations: true` by default for a strategy that can use true annotations."""
    if "annotations" not in parameter_names(name, table):
        return dict(parameters)
    return {"annotations": "true", **parameters}


class NoDetector:
    """The detector of a query without one, for strategies that declare no need; it refuses every use."""

    def __getattr__(self, name: str) -> Any:
        """Raise ConfigError."""
        msg = f"{name}: there is no detector in this pruning; name a config with --config"
        raise ConfigError(msg)


class _Watch:
    """Pass progress on, and measure the time before and after the selecting begins."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._start = progress, time.monotonic()
        self._selecting: float | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        if what == "selecting" and self._selecting is None:
            self._selecting = time.monotonic()
        self._progress.step(what, done, total)

    def finished(self) -> dict[str, float]:
        now = time.monotonic()
        middle = self._selecting or now
        return {"scoring": middle - self._start, "selecting": now - middle}


@dataclass(frozen=True, slots=True)
class Balance:
    """The class balance of a subset and of the whole set, in boxes per class, crowds included."""

    class_names: tuple[str, ...]
    images: tuple[int, int]
    counts: np.ndarray
    full: np.ndarray

    @classmethod
    def of(cls, dataset: DataSet, kept: tuple[ImageId, ...]) -> "Balance":
        """Count the boxes of a subset and of the whole set."""
        names, chosen = dataset.class_names, set(kept)
        counts = {True: np.zeros(len(names)), False: np.zeros(len(names))}
        for image_id, truth in dataset.annotations.items():
            counts[image_id in chosen] += np.bincount(truth.labels, minlength=len(names))
        return cls(names, (len(kept), len(dataset.images)), counts[True], counts[True] + counts[False])

    @property
    def entropy(self) -> float:
        """The entropy of the class shares of the subset, in nats."""
        return class_entropy(self.counts)

    @property
    def divergence(self) -> float:
        """The KL divergence of the class shares of the subset from those of the whole set, in nats."""
        return class_divergence(self.counts, self.full)

    def lines(self) -> list[str]:
        """Return what the command prints."""
        (kept, images), boxes, total = self.images, int(self.counts.sum()), int(self.full.sum())
        most = np.log(max(2, int((self.full > 0).sum())))
        share = f"({kept / images:.1%}), boxes {boxes} of {total} ({boxes / max(1, total):.1%})"
        entropy, before = self.entropy, class_entropy(self.full)
        lines = [
            f"images {kept} of {images} {share}",
            f"class entropy {entropy:.4f} nats, {entropy / most:.1%} of the most possible (full set {before:.4f})",
            f"KL divergence from the full set {self.divergence:.4f} nats",
        ]
        width = max(map(len, self.class_names), default=0)
        for row in np.argsort(-self.full, kind="stable"):
            now, was = int(self.counts[row]), int(self.full[row])
            share = f"{now / was:7.1%}" if was else "      -"
            lines.append(f"  {self.class_names[row]:<{width}} {now:>7} of {was:>7} {share}")
        return lines
