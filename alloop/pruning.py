"""Pruning: labels exist and there are too many; which images are worth training on?

A pruning is one query over the whole set: every image is unlabeled, and a strategy that says
`annotations: true` is given the truth. What is kept keeps its bytes.
"""

import csv
import io
import time
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from alloop.config import ExperimentConfig, StrategyConfig, load_config, parsed_override
from alloop.data.coco import read_bytes, read_coco
from alloop.data.records import DataSet, validate
from alloop.derived import class_divergence, class_entropy
from alloop.errors import ConfigError, DataError, StrategyError
from alloop.files import atomic_write
from alloop.progress import Progress
from alloop.query import FittedDetector, Query
from alloop.strategy import InstanceStrategy, Strategy, checked_selection, load_class, make_strategy, uses_labels
from alloop.values import ImageId, InstanceScores, Selection


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning keeps, and how it came about.

    Attributes:
        ranking: images with their utilities, best first; more than are kept where the strategy ranks them all.
        count: how many of them are kept.
        instances: scores of the instances, of strategies that score them.
        seconds: time of scoring and of selecting.
    """

    ranking: Selection
    count: int
    instances: InstanceScores | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def kept(self) -> tuple[ImageId, ...]:
        """The images kept, best first."""
        return self.ranking.image_ids[: self.count]


def count_of(images: int, keep: float | None, number: int | None) -> int:
    """How many images stay: a share of them, rounded, or a number.

    Raises:
        ConfigError: neither or both given, a share outside (0, 1], none or more than there are.
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
    *,
    random_seed: int = 0,
    detector: FittedDetector | None = None,
    progress: Progress | None = None,
    name: str = "the strategy",
) -> Pruned:
    """Ask a strategy which `count` images of an annotated set to keep.

    Args:
        dataset: the whole set.
        strategy: what chooses; it is given the truth if it says `annotations: true`.
        count: images to keep.
        random_seed: of all its random choices.
        detector: trained on the whole set, for strategies that need one.
        progress: where to tell how it goes.
        name: of the strategy, in errors.

    Raises:
        ConfigError: the strategy needs a detector and there is none.
        StrategyError: it broke its contract, or cannot score these annotations.
    """
    if strategy.needs and detector is None:
        needs = ", ".join(sorted(strategy.needs))
        msg = f"{name} needs {needs} of a trained detector; name an experiment that trains one with --config"
        raise ConfigError(msg)
    watch = _Watch(progress or Progress(quiet=True))
    # what does not depend on the count is ranked to the end, so that every image gets its score
    asked = count if getattr(strategy, "greedy", False) else len(dataset.images)
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


def prune_file(
    annotations: Path,
    name: str,
    overrides: Sequence[str],
    out: Path,
    table: Mapping[str, str],
    *,
    keep: float | None = None,
    number: int | None = None,
    scores: Path | None = None,
    config: Path | None = None,
    random_seed: int = 0,
    progress: Progress | None = None,
) -> list[str]:
    """Prune a COCO file into another one.

    Args:
        annotations: the whole set.
        name: of the strategy.
        overrides: its parameters, as `key=value`; `instances=FILE` writes the scores of the instances.
        out: the subset as COCO JSON.
        table: strategies by name.
        keep: share of the images to keep, or
        number: how many.
        scores: where to write a score for each image.
        config: experiment whose detector is trained on the whole set, for strategies that need one.
        random_seed: of all random choices.
        progress: where to tell how it goes.

    Returns:
        what to print.
    """
    if out.resolve() == annotations.resolve():
        msg = f"--out {out}: is the file that is read; give another name"
        raise ConfigError(msg)
    parameters = dict(parsed_override(text) for text in overrides)
    instances = parameters.pop("instances", None)
    parameters = pruning_parameters(name, parameters, table)
    strategy = make_strategy(name, parameters, table)
    if instances is not None and not isinstance(strategy, InstanceStrategy):
        msg = f"--set instances: {name} scores images, not instances; leave it out"
        raise ConfigError(msg)
    started = time.monotonic()
    dataset = validate(read_coco(annotations), str(annotations))
    reading = time.monotonic() - started
    count = count_of(len(dataset.images), keep, number)
    detector = None
    if strategy.needs and config is not None:
        experiment = load_config(config, [f"data.train.annotations={annotations.resolve()}"])
        detector = detector_for(experiment, name, parameters, random_seed, out.with_suffix(".model"), table, progress)
    try:
        pruned = prune(
            dataset, strategy, count, random_seed=random_seed, detector=detector, progress=progress, name=name
        )
    except (DataError, StrategyError) as error:
        raise type(error)(f"{annotations}: {error}") from error
    if scores is not None:
        atomic_write(scores, scores_csv(pruned).encode())
    if instances is not None:
        atomic_write(Path(str(instances)), instances_csv(pruned, dataset).encode())
    told = Balance.of(dataset, pruned.kept).lines()
    del dataset  # it holds the text of the file, which is about to be read once more
    atomic_write(out, subset_json(annotations, pruned.kept))
    seconds = {"reading": reading, **pruned.seconds}
    times = ", ".join(f"{what} {value:.2f} s" for what, value in seconds.items())
    return [f"{out}: kept by {name}", *told, f"time: {times}"]


def pruning_parameters(name: str, parameters: Mapping[str, Any], table: Mapping[str, str]) -> dict[str, Any]:
    """A strategy that can look at the truth does so on annotated data, unless it is told not to."""
    cls = load_class(name, table, "strategy")
    knows = hasattr(cls, "annotations")
    return {**({"annotations": "true"} if knows else {}), **parameters}


def detector_for(
    config: ExperimentConfig,
    name: str,
    parameters: Mapping[str, Any],
    random_seed: int,
    folder: Path,
    table: Mapping[str, str],
    progress: Progress | None = None,
    shared: Path | None = None,
) -> FittedDetector:
    """The detector that a strategy prunes with: the config's, trained on the whole set in a folder of its own.

    A training that was stopped goes on.
    """
    from alloop.engine import trained_on_everything  # noqa: PLC0415  torch is loaded only where it is needed

    change = {"strategy": StrategyConfig.model_validate({"name": name, **parameters}), "random_seed": random_seed}
    return trained_on_everything(config.model_copy(update=change), folder, table, shared=shared, progress=progress)


class NoDetector:
    """Stands where a strategy asks nothing of a detector; whatever is asked is refused."""

    def __getattr__(self, name: str) -> Any:
        """Refuse."""
        msg = f"{name}: there is no detector in this pruning; name a config with --config"
        raise ConfigError(msg)


class _Watch:
    """Passes progress on, and takes the time before and after the selecting begins."""

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
    """How a subset compares with the whole set; the counts are boxes a class, crowds included."""

    class_names: tuple[str, ...]
    images: tuple[int, int]
    counts: np.ndarray
    full: np.ndarray

    @classmethod
    def of(cls, dataset: DataSet, kept: tuple[ImageId, ...]) -> "Balance":
        """Count the boxes of a subset and of the whole."""
        names = dataset.class_names
        chosen, of_class = set(kept), {True: np.zeros(len(names)), False: np.zeros(len(names))}
        for image_id, truth in dataset.annotations.items():
            of_class[image_id in chosen] += np.bincount(truth.labels, minlength=len(names))
        return cls(names, (len(kept), len(dataset.images)), of_class[True], of_class[True] + of_class[False])

    @property
    def entropy(self) -> float:
        """Of the class shares of the subset, in nats."""
        return class_entropy(self.counts)

    @property
    def divergence(self) -> float:
        """Of the class shares of the subset from those of the whole set, in nats."""
        return class_divergence(self.counts, self.full)

    def lines(self) -> list[str]:
        """What the command prints."""
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


class _Named(msgspec.Struct, gc=False):
    id: int


class _OfImage(msgspec.Struct, gc=False):
    image_id: int


def subset_json(path: Path, kept: Collection[ImageId]) -> Iterator[bytes]:
    """A COCO file cut to some of its images, in parts; every record that stays keeps its bytes, all else as well.

    Other lists of the file whose records name an image are cut, too.
    """
    chosen = frozenset(kept)
    tree = msgspec.json.decode(read_bytes(path), type=dict[str, msgspec.Raw])
    opening = b"{"
    for key, text in tree.items():
        yield opening + msgspec.json.encode(key) + b": "
        yield from _kept_part(key, text, chosen)
        opening = b",\n"
    yield b"}\n"


def _kept_part(key: str, text: msgspec.Raw, chosen: Container[int]) -> Iterator[bytes]:
    """The records of a list that belong to the chosen images; anything but such a list as it is."""
    shape, name = (_Named, "id") if key == "images" else (_OfImage, "image_id")
    decode = msgspec.json.Decoder(shape).decode
    try:
        records = msgspec.json.decode(text, type=list[msgspec.Raw])
        keep = [getattr(decode(record), name) in chosen for record in records]
    except msgspec.MsgspecError:
        yield bytes(text)
        return
    opening = b"["
    for record in compress(records, keep):
        yield opening + bytes(record)
        opening = b",\n"
    yield b"]" if opening != b"[" else b"[]"


def scores_csv(pruned: Pruned) -> str:
    """`image_id, score, rank, kept` of every ranked image, best first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "score", "rank", "kept"])
    for rank, (image_id, score) in enumerate(zip(pruned.ranking.image_ids, pruned.ranking.utilities, strict=True)):
        writer.writerow([image_id, repr(float(score)), rank + 1, int(rank < pruned.count)])
    return text.getvalue()


def instances_csv(pruned: Pruned, dataset: DataSet) -> str:
    """`image_id, annotation_id, category_id, score` of every scored instance."""
    assert pruned.instances is not None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "annotation_id", "category_id", "score"])
    found, truth, last = pruned.instances, None, None
    for image_id, row, label, score in zip(found.image_ids, found.rows, found.labels, found.scores, strict=True):
        if truth is None or image_id != last:
            truth, last = dataset.annotations[ImageId(int(image_id))], image_id
        writer.writerow([image_id, truth.ids[row], dataset.category_ids[label], repr(float(score))])
    return text.getvalue()
