"""Small pictures of test images with what the detector of the last round found on them, where a run kept that."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from alloop.errors import AlloopError
from alloop.evaluation.matching import MatchedDetections
from alloop.ledger.split_images import HashedImage, recorded_images
from alloop.ledger.store import read_ledger
from alloop.report.pictures import Picture, PictureBox, counted_boxes, thumbnail
from alloop.report.run_images import Read, image_reader
from alloop.results.kept_detections import recorded_detections
from alloop.results.runs import Run
from alloop.values import ImageId

MOST_PICTURES = 48  # on a page, so that it stays small
EACH = 6  # of one run, at most
HALF = 0  # row of the IoU threshold 0.50


@dataclass(frozen=True, slots=True)
class DetectionGallery:
    """Test images of one run.

    Attributes:
        strategy: the strategy of the run.
        run: the name of its folder.
        round: the round whose detector it is.
        score: the score from which on detections are shown.
        pictures: the test images.
    """

    strategy: str
    run: str
    round: int
    score: float
    pictures: list[Picture]


def detection_galleries(runs: Sequence[Run]) -> tuple[list[DetectionGallery], str]:
    """Return what the last detector of each run found, on the same images: those on which the first errs most.

    The second value is the reason where there is none because the images cannot be read, else empty.

    Args:
        runs: the first run of each strategy.
    """
    try:
        known = [(run, kept) for run in runs if (kept := recorded_detections(run, run.rounds[-1].round)) is not None]
        if not known:
            return [], ""
        each = max(1, min(EACH, MOST_PICTURES // len(known)))
        first, kept = known[0]
        rows = _most_errors(kept, each)
        with read_ledger(first.folder) as ledger:
            images = {image[0]: image for image in recorded_images(ledger).get("test", [])}
        shown = [image for row in rows if (image := images.get(ImageId(int(kept.image_ids[row])))) is not None]
        read = image_reader(first, "test")
        return [_gallery(run, of_run, shown, read) for run, of_run in known[:MOST_PICTURES]], ""
    except (AlloopError, OSError) as error:
        return [], f"The test images could not be read: {error}"


def _gallery(run: Run, kept: MatchedDetections, images: Sequence[HashedImage], read: Read) -> DetectionGallery:
    pictures = [_picture(kept, image, read) for image in images if image[0] in kept.image_ids]
    return DetectionGallery(run.strategy, run.name, run.rounds[-1].round, shown_from(kept), pictures)


def shown_from(kept: MatchedDetections) -> float:
    """Return the score above which there are as many detections as true boxes on all test images."""
    scores = np.sort(kept.scores[~kept.ignored[HALF]])[::-1]
    number = min(len(kept.truth_images), len(scores))
    return float(scores[number - 1]) if number else 1.0


def _shown(kept: MatchedDetections) -> Bool[np.ndarray, " n"]:
    shown: np.ndarray = ~kept.ignored[HALF] & (kept.scores >= shown_from(kept))
    return shown


def _most_errors(kept: MatchedDetections, number: int) -> Int64[np.ndarray, " n"]:
    """Return the rows of the images with the most boxes that were missed or found where there are none."""
    shown, images = _shown(kept), len(kept.image_ids)
    right = np.bincount(kept.images[shown & kept.matched[HALF]], minlength=images)
    found = np.bincount(kept.images[shown], minlength=images)
    true = np.bincount(kept.truth_images, minlength=images)
    worst: np.ndarray = np.argsort(-(true + found - 2 * right), kind="stable")[:number]
    return worst


def _picture(kept: MatchedDetections, image: HashedImage, read: Read) -> Picture:
    row = int(np.searchsorted(kept.image_ids, image[0]))
    detections = np.flatnonzero(_shown(kept) & (kept.images == row))
    boxes = tuple(_box(kept, int(k)) for k in detections)
    true, right = int((kept.truth_images == row).sum()), int(kept.matched[HALF, detections].sum())
    lines = (f"{right} of {true} found; {len(boxes) - right} wrong",)
    text = f"test image {image[0]} with {counted_boxes(boxes)} detected"
    return Picture(thumbnail(read(image)), boxes, image[1], lines, text)


def _box(kept: MatchedDetections, k: int) -> PictureBox:
    text = f"{kept.class_names[kept.labels[k]]} {kept.scores[k]:.2f}"
    return PictureBox(kept.boxes[k].tolist(), text, "right" if kept.matched[HALF, k] else "wrong")
