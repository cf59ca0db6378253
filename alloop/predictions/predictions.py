"""The detections of many images in a few long arrays, from which one image's are cut out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from alloop.errors import StrategyError
from alloop.values import Detections, ImageId, ImageRecord, read_only


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Detections of many images, image after image, in each with the highest score first.

    Attributes:
        rows: the row of each image.
        ends: for each image the row behind its last detection.
        boxes: xyxy in absolute pixels, clipped to the image.
        scores: confidence in 0..1.
        labels: class of each detection.
        probabilities: `[i, k]` is the posterior of class k; None where only the score of one class is known.
        classes: number of classes.
        file_rows: the row of each detection in the one file that all of them come from; None for several files.
        file_length: the number of rows of that file, with those that were left out.
    """

    rows: dict[ImageId, int]
    ends: Int64[np.ndarray, " images"]
    boxes: Float32[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    probabilities: Float32[np.ndarray, "n k"] | None
    classes: int
    file_rows: Int64[np.ndarray, " n"] | None = None
    file_length: int = 0

    def span(self, image_id: ImageId) -> tuple[int, int]:
        """Return the first row of an image's detections and the row behind the last one.

        Raises:
            StrategyError: an image that was not predicted.
        """
        row = self.rows.get(image_id)
        if row is None:
            msg = f"image {image_id} was not predicted; a strategy may ask about the images to choose from"
            raise StrategyError(msg)
        return int(self.ends[row - 1]) if row else 0, int(self.ends[row])

    def of_image(self, image_id: ImageId) -> Detections:
        """Return the detections of an image.

        Where only scores are known, a detection has two outcomes: its class with its score, and the background with
        the rest. No probability of another class is made up.
        """
        begin, end = self.span(image_id)
        scores, labels = self.scores[begin:end], self.labels[begin:end]
        if self.probabilities is None:
            probabilities = np.zeros((end - begin, self.classes), dtype=np.float32)
            probabilities[np.arange(end - begin), labels] = scores
            read_only(probabilities)
        else:
            probabilities = self.probabilities[begin:end]
        return Detections.of_checked(self.boxes[begin:end], scores, labels, probabilities)


def grouped(
    images: Sequence[ImageRecord],
    image_rows: Int64[np.ndarray, " n"],
    boxes: Float32[np.ndarray, "n 4"],
    scores: Float32[np.ndarray, " n"],
    labels: Int64[np.ndarray, " n"],
    probabilities: Float32[np.ndarray, "n k"] | None,
    classes: int,
    file_rows: Int64[np.ndarray, " n"] | None = None,
    file_length: int = 0,
) -> Predictions:
    """Return detections in any order as `Predictions`; equal scores keep their order.

    Args:
        images: all images, also those without a detection.
        image_rows: the row among `images` that each detection belongs to.
        boxes: xyxy in absolute pixels.
        scores: confidence in 0..1.
        labels: class of each detection.
        probabilities: the class posteriors, if they are known.
        classes: number of classes.
        file_rows: the row of each in the one file that all come from.
        file_length: the number of rows of that file.
    """
    order = np.lexsort((-scores, image_rows))
    return Predictions(
        rows={image.image_id: row for row, image in enumerate(images)},
        ends=read_only(np.cumsum(np.bincount(image_rows, minlength=len(images)), dtype=np.int64)),
        boxes=read_only(boxes[order]),
        scores=read_only(scores[order]),
        labels=read_only(labels[order]),
        probabilities=None if probabilities is None else read_only(probabilities[order]),
        classes=classes,
        file_rows=None if file_rows is None else read_only(file_rows[order]),
        file_length=file_length,
    )
