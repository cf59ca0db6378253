"""Which images to annotate next, from files alone: no run, no state, the same answer every time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from alloop.budget.amounts import Amount, Spent, buy, first_count
from alloop.data.notes import Notes
from alloop.errors import ConfigError, StrategyError
from alloop.oracles.oracle import PreAnnotations, Task
from alloop.predictions.counting import expected_boxes, fitted_threshold
from alloop.predictions.embeddings import read_embeddings
from alloop.predictions.fitted import PredictedDetector, refuse_unserved
from alloop.predictions.pool import SelectionPool, read_pool
from alloop.predictions.predictions import Predictions
from alloop.predictions.reading import read_predictions
from alloop.predictions.regions import RegionFeatures, read_region_features
from alloop.predictions.rows import KnownImages
from alloop.progress import Progress
from alloop.query import FittedDetector, Need, Query
from alloop.strategy import Strategy, checked_selection, make_strategy, uses_labels
from alloop.tables import csv_text
from alloop.values import ImageId, ImageRecord, Selection

COUNT_ABOVE = 0.5  # score from which on a detection counts as a box where nothing is labeled


@dataclass(frozen=True, slots=True)
class Files:
    """The files that a selection is made from. See `alloop select --help`.

    Attributes:
        pool: annotations in any format, or a folder of images.
        predictions: detections of the images, in one or several files.
        predictions_format: `coco`, `csv` or `yolo`; guessed by default.
        labeled: annotations of what is labeled.
        embeddings: a `.npy` file with a row for each image.
        embedding_ids: the image of each row.
        noisy: detections of the same images with added noise, by its standard deviation in steps of 0..255.
        classes: names of the classes in label order, where no file has them.
        regions: a `.npy` file with a row for each row of the one file of predictions.
        labeled_regions: a `.npy` file with a row for each labeled box, image by image in the order of their file.
    """

    pool: Path
    predictions: tuple[Path, ...] = ()
    predictions_format: str | None = None
    labeled: Path | None = None
    embeddings: Path | None = None
    embedding_ids: Path | None = None
    noisy: Mapping[float, Path] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    regions: Path | None = None
    labeled_regions: Path | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The chosen images, best first.

    Attributes:
        images: their records.
        utilities: the strategy's number for each.
        predicted_boxes: the boxes that each is expected to cost; None without predictions.
        tasks: the images with the predicted boxes that count.
        class_names: in label order.
        notes: what was read leniently, and what the figures rest on.
    """

    images: tuple[ImageRecord, ...]
    utilities: tuple[float, ...]
    predicted_boxes: tuple[float, ...] | None
    tasks: tuple[Task, ...]
    class_names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def image_ids(self) -> tuple[ImageId, ...]:
        """The ids of the images."""
        return tuple(image.image_id for image in self.images)

    def to_csv(self) -> str:
        """Return a line for each image: rank from 1, image_id, file_name, utility, predicted_boxes."""
        boxes = ["" for _ in self.images] if self.predicted_boxes is None else [f"{b:g}" for b in self.predicted_boxes]
        cells = zip(self.images, self.utilities, boxes, strict=True)
        rows = [
            [rank, image.image_id, image.file_name, f"{utility:.9g}", count]
            for rank, (image, utility, count) in enumerate(cells, start=1)
        ]
        return csv_text(["rank", "image_id", "file_name", "utility", "predicted_boxes"], rows)


def select(
    files: Files | str | Path,
    strategy: str,
    table: Mapping[str, str],
    *,
    images: int | None = None,
    boxes: int | None = None,
    parameters: Mapping[str, Any] = MappingProxyType({}),
    random_seed: int = 0,
    count_above: float | None = None,
    progress: Progress | None = None,
) -> Chosen:
    """Return which images of a pool to annotate next.

    Args:
        files: the files, or the pool alone.
        strategy: its name in the table, or an import path.
        table: strategies by name, for example `strategies.TABLE`.
        images: how many images; give this or `boxes`.
        boxes: how many boxes; images are taken in ranking order until that many are predicted on them.
        parameters: those of the strategy.
        random_seed: source of all randomness.
        count_above: score from which on a detection counts as a box. By default it is the score at which there are as
            many detections per image as boxes on what is labeled, and 0.5 where nothing is labeled.
        progress: where to report progress.

    Raises:
        DataError: a file cannot be read or used; file, row and id are named.
        StrategyError: the strategy needs what no file gives; the message says which file would.
        ConfigError: an unknown strategy, parameter or amount.
    """
    files = files if isinstance(files, Files) else Files(Path(files))
    quota = _quota(images, boxes)
    made = make_strategy(strategy, dict(parameters), table)
    if uses_labels(made):
        msg = f"{strategy}: annotations: true needs hidden labels; `select` chooses images that have none"
        raise StrategyError(msg)
    notes = Notes()
    pool = read_pool(files.pool, files.labeled, files.classes, notes)
    detector = _detector(files, pool, notes)
    refuse_unserved(strategy, made.needs, detector.gives)
    if quota.unit == "boxes" and Need.DETECTIONS not in detector.gives:
        msg = "--boxes: boxes are counted by predictions; give --predictions FILE, or --images"
        raise StrategyError(msg)
    query = _query(pool, detector, random_seed, progress or Progress(quiet=True))
    counter = _Counter(query, pool, count_above) if Need.DETECTIONS in detector.gives else None
    selection, counts = _bought(made, query, quota, counter)
    remarks = [
        *map(str, notes.listed()),
        *(counter.notes(detector) if counter else []),
        *_shortage(quota, selection, counts),
    ]
    return _chosen(pool, selection, counts, counter, tuple(remarks))


def _quota(images: int | None, boxes: int | None) -> Amount:
    if (images is None) == (boxes is None):
        msg = "give one of --images N and --boxes N"
        raise ConfigError(msg)
    return Amount.parse(f"{images} images" if boxes is None else f"{boxes} boxes", "--boxes" if boxes else "--images")


def _detector(files: Files, pool: SelectionPool, notes: Notes) -> PredictedDetector:
    """Read the files that stand for a detector."""
    known, format_ = KnownImages(pool.images), files.predictions_format
    predictions, embeddings = None, None
    if files.predictions:
        predictions = read_predictions(files.predictions, known, pool.classes, notes, format_)
    in_pool = known if files.embedding_ids else KnownImages(pool.images[: len(pool.images) - pool.outside])
    if files.embeddings is not None:
        embeddings = read_embeddings(files.embeddings, files.embedding_ids, in_pool, notes)
    noisy = {s: read_predictions([path], known, pool.classes, notes, format_) for s, path in files.noisy.items()}
    regions = None if files.regions is None else _regions(files, files.regions, predictions, pool)
    return PredictedDetector(pool.classes.names, predictions, embeddings, noisy, regions)


def _regions(files: Files, path: Path, predictions: Predictions | None, pool: SelectionPool) -> RegionFeatures:
    if predictions is None or predictions.file_rows is None:
        msg = f"--regions: {path} has a row for each row of one file of predictions; give --predictions FILE once"
        raise ConfigError(msg)
    if files.labeled_regions is None and any(map(len, pool.labeled.values())):
        msg = "--labeled-regions: strategies that use --regions compare with the labeled boxes; give their vectors too"
        raise ConfigError(msg)
    return read_region_features(path, files.labeled_regions, predictions, pool.labeled)


def _query(pool: SelectionPool, detector: PredictedDetector, random_seed: int, progress: Progress) -> Query:
    fitted: FittedDetector = detector
    return Query(
        round=0,
        unlabeled=pool.unlabeled,
        labeled=MappingProxyType(dict(pool.labeled)),
        detector=fitted,
        count=0,
        random_seed=random_seed,
        sizes=MappingProxyType({image.image_id: (image.width, image.height) for image in pool.images}),
        progress=progress.step,
    )


class _Counter:
    """Counts the boxes that images are expected to cost: their detections from a threshold on."""

    def __init__(self, query: Query, pool: SelectionPool, count_above: float | None) -> None:
        self._query = query
        labeled = [len(truth) for truth in pool.labeled.values()]
        self.mean = sum(labeled) / len(labeled) if sum(labeled) else None
        self._is_fitted = count_above is None and self.mean is not None
        self.threshold = count_above if count_above is not None else self._fitting()

    def _fitting(self) -> float:
        """Return the threshold under which unlabeled images have as many boxes as labeled ones."""
        return COUNT_ABOVE if self.mean is None else fitted_threshold(self._query, self.mean)

    def boxes(self, selection: Selection) -> list[float]:
        """Return the boxes that each image is expected to cost."""
        if selection.predicted_boxes is not None:
            return [float(boxes) for boxes in selection.predicted_boxes]
        counts = expected_boxes(self._query.detector.detections(selection.image_ids), self.threshold)
        return [float(boxes) for boxes in counts]

    def task(self, image: ImageRecord) -> Task:
        """Return an image with the predicted boxes that count."""
        (found,) = self._query.detector.detections([image.image_id])
        kept = found.scores >= self.threshold
        return Task(image, PreAnnotations(found.boxes[kept], found.labels[kept], found.scores[kept]))

    def notes(self, detector: PredictedDetector) -> list[str]:
        """Say what the figures rest on."""
        return [self._basis(), *detector.notes(self._query.unlabeled)]

    def _basis(self) -> str:
        counted = f"detections from a score of {self.threshold:.3g} on count as boxes"
        if not self._is_fitted:
            return counted
        if self.threshold == 0:
            return (
                f"every detection counts as a box: there are fewer than the {self.mean:.2f} per image that is labeled"
            )
        return f"{counted} (as many per image as on what is labeled, {self.mean:.2f})"


def _bought(
    strategy: Strategy, query: Query, quota: Amount, counter: _Counter | None
) -> tuple[Selection, list[float] | None]:
    """Return the head of the ranking that meets the quota, and the boxes of each image."""
    count = first_count(quota, (counter and counter.mean) or 1.0, len(query.unlabeled))
    while True:
        selection = checked_selection(strategy, replace(query, count=count))
        boxes = counter.boxes(selection) if counter else None
        priced = zip(selection.image_ids, [round(b) for b in boxes] if boxes else [0] * count, strict=True)
        head = buy(priced, quota, Spent(), None)
        if head.quota_met or count == len(query.unlabeled):
            taken = len(head.image_ids)
            kept = Selection(selection.image_ids[:taken], selection.utilities[:taken], None, selection.diagnostics)
            return kept, boxes[:taken] if boxes else None
        count = min(2 * count, len(query.unlabeled))


def _shortage(quota: Amount, selection: Selection, boxes: Sequence[float] | None) -> list[str]:
    """Say so where the pool has less than was asked for."""
    images, there = len(selection.image_ids), sum(map(round, boxes or ()))
    if (images if quota.unit == "images" else there) >= quota.number:
        return []
    predicted = "" if boxes is None else f" with {there} predicted boxes"
    return [f"{quota} were asked for, and the pool has {images} images{predicted} to choose from; all are chosen"]


def _chosen(
    pool: SelectionPool,
    selection: Selection,
    boxes: Sequence[float] | None,
    counter: _Counter | None,
    notes: tuple[str, ...],
) -> Chosen:
    by_id = pool.by_id
    images = tuple(by_id[image_id] for image_id in selection.image_ids)
    return Chosen(
        images=images,
        utilities=tuple(float(utility) for utility in selection.utilities),
        predicted_boxes=None if boxes is None else tuple(boxes),
        tasks=tuple(counter.task(image) if counter else Task(image) for image in images),
        class_names=pool.classes.names,
        notes=notes,
    )
