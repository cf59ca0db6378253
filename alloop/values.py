"""The values that are passed between the packages: frozen, and validated when they are built.

Boxes are float32 `(x1, y1, x2, y2)` in absolute pixels of the image as displayed. Labels are class indices `0 .. K-1`
in the order of the data set's categories.
"""

from dataclasses import dataclass, field
from typing import Any, NewType

import msgspec
import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from alloop.errors import AlloopError, StrategyError

ImageId = NewType("ImageId", int)
Segmentation = bytes | msgspec.Raw
"""The JSON of a mask, as in a COCO record: polygons or RLE."""


def read_only(array: np.ndarray) -> np.ndarray:
    """Make an array read-only and return it; values keep such arrays without copying them."""
    array.flags.writeable = False
    return array


def _freeze(owner: object, name: str, value: Any, dtype: Any, shape: tuple[int | None, ...]) -> None:
    """Store `value` on a frozen dataclass as a read-only array of the given dtype and shape, None being any length.

    Raises:
        AlloopError: another shape, or numbers that are not finite.
    """
    kept = isinstance(value, np.ndarray) and not value.flags.writeable and value.dtype == dtype
    array = value if kept else np.array(value, dtype=dtype)
    if array.ndim != len(shape) and array.size == 0:
        array = array.reshape([0 if side is None else side for side in shape])
    if array.ndim != len(shape) or tuple(map(_or_any, shape, array.shape)) != array.shape:
        expected = tuple("n" if side is None else side for side in shape)
        msg = f"{type(owner).__name__}.{name}: expected shape {expected}, found {array.shape}"
        raise AlloopError(msg)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        msg = f"{type(owner).__name__}.{name}: expected finite numbers, found NaN or infinity"
        raise AlloopError(msg)
    array.flags.writeable = False
    object.__setattr__(owner, name, array)


def _or_any(side: int | None, actual: int) -> int:
    return actual if side is None else side


def _same_length(owner: object, **arrays: np.ndarray) -> None:
    """Raise AlloopError unless all arrays have the same length."""
    if len(set(map(len, arrays.values()))) > 1:
        lengths = {name: len(array) for name, array in arrays.items()}
        msg = f"{type(owner).__name__}: expected equal lengths, found {lengths}"
        raise AlloopError(msg)


_NO_IDS = read_only(np.zeros(0, dtype=np.int64))


class ImageRecord(msgspec.Struct, frozen=True, gc=False, rename={"image_id": "id"}):
    """One image of a data set: its id, file and size in pixels as displayed. In COCO JSON the id is called `id`."""

    image_id: ImageId
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """The annotations of one image by an oracle. `len()` is the number of boxes that are paid for.

    Attributes:
        boxes: one per record.
        labels: one per record.
        crowd: whether a record stands for a group of objects.
        trainable: False for records that are paid for and never trained on: crowds, boxes without area, boxes outside
            the image.
        masks: the segmentation of each record as JSON, or None.
        ids: of the records in their file; empty where they come from elsewhere.
    """

    boxes: Float32[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]
    crowd: Bool[np.ndarray, " n"]
    trainable: Bool[np.ndarray, " n"]
    masks: tuple[Segmentation | None, ...] = ()
    ids: Int64[np.ndarray, " n"] = field(default_factory=lambda: _NO_IDS)

    def __post_init__(self) -> None:
        """Freeze the arrays; raise AlloopError on wrong shapes or numbers that are not finite."""
        _freeze(self, "boxes", self.boxes, np.float32, (None, 4))
        _freeze(self, "labels", self.labels, np.int64, (None,))
        _freeze(self, "crowd", self.crowd, np.bool_, (None,))
        _freeze(self, "trainable", self.trainable, np.bool_, (None,))
        _freeze(self, "ids", self.ids, np.int64, (None,))
        if not self.masks:
            object.__setattr__(self, "masks", (None,) * len(self.boxes))
        _same_length(
            self,
            boxes=self.boxes,
            labels=self.labels,
            crowd=self.crowd,
            trainable=self.trainable,
            masks=np.empty(len(self.masks)),
            ids=self.ids if len(self.ids) else self.boxes,
        )

    def name_of(self, row: int) -> str:
        """Return how messages name one annotation."""
        return f"annotation {self.ids[row]}" if len(self.ids) else f"annotation {row + 1} of {len(self)}"

    def __len__(self) -> int:
        """Return the number of paid boxes: all records, trainable or not."""
        return len(self.boxes)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The detections on one image, most confident first.

    Attributes:
        boxes: one per detection.
        scores: confidence in 0..1.
        labels: one per detection.
        probabilities: `[i, k]` is the posterior of class k for detection i. Softmax heads leave out the background, so
            rows sum to at most 1; sigmoid heads give independent probabilities.
        masks: uint8 `[n, height, width]`, or None.
        proposals: the regions from which a two-stage detector regressed the boxes, or None.
    """

    boxes: Float32[np.ndarray, "n 4"]
    scores: Float32[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    probabilities: Float32[np.ndarray, "n k"]
    masks: np.ndarray | None = None
    proposals: Float32[np.ndarray, "n 4"] | None = None

    def __post_init__(self) -> None:
        """Freeze the arrays; raise AlloopError on wrong shapes or numbers that are not finite."""
        _freeze(self, "boxes", self.boxes, np.float32, (None, 4))
        _freeze(self, "scores", self.scores, np.float32, (None,))
        _freeze(self, "labels", self.labels, np.int64, (None,))
        _freeze(self, "probabilities", self.probabilities, np.float32, (None, None))
        if self.proposals is not None:
            _freeze(self, "proposals", self.proposals, np.float32, (None, 4))
        _same_length(
            self,
            boxes=self.boxes,
            scores=self.scores,
            labels=self.labels,
            probabilities=self.probabilities,
            proposals=self.boxes if self.proposals is None else self.proposals,
        )

    @classmethod
    def of_checked(
        cls,
        boxes: Float32[np.ndarray, "n 4"],
        scores: Float32[np.ndarray, " n"],
        labels: Int64[np.ndarray, " n"],
        probabilities: Float32[np.ndarray, "n k"],
    ) -> "Detections":
        """Return detections from read-only arrays that were checked as a whole, for a hundred thousand images at once.

        The checks of the constructor took half of the time of a selection from files.
        """
        detections = object.__new__(cls)
        arrays = {"boxes": boxes, "scores": scores, "labels": labels, "probabilities": probabilities}
        for name, value in {**arrays, "masks": None, "proposals": None}.items():
            object.__setattr__(detections, name, value)
        return detections

    def __len__(self) -> int:
        """Return the number of detections."""
        return len(self.boxes)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The images that a strategy chooses, in ranking order, with a finite utility each.

    Attributes:
        image_ids: distinct images, best first.
        utilities: one number per image.
        predicted_boxes: number of boxes that each image is expected to cost; None where the strategy knows no better
            than the loop, which counts detections.
        diagnostics: figures worth recording.
    """

    image_ids: tuple[ImageId, ...]
    utilities: Float[np.ndarray, " n"]
    predicted_boxes: Float[np.ndarray, " n"] | None = None
    diagnostics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise StrategyError on repeated ids, wrong lengths or numbers that are not finite."""
        object.__setattr__(self, "image_ids", tuple(ImageId(int(i)) for i in self.image_ids))
        if len(set(self.image_ids)) != len(self.image_ids):
            repeated = next(i for i in self.image_ids if self.image_ids.count(i) > 1)
            msg = f"Selection: expected distinct images, found image {repeated} more than once"
            raise StrategyError(msg)
        for name in ("utilities", "predicted_boxes"):
            value = getattr(self, name)
            if value is None:
                continue
            array = np.array(value, dtype=np.float64)
            if array.shape != (len(self.image_ids),) or not np.isfinite(array).all():
                msg = (
                    f"Selection.{name}: expected {len(self.image_ids)} finite numbers, one per image, "
                    f"found shape {array.shape} with {int((~np.isfinite(array)).sum())} not finite"
                )
                raise StrategyError(msg)
            array.flags.writeable = False
            object.__setattr__(self, name, array)


@dataclass(frozen=True, slots=True, eq=False)
class MaskPixels:
    """The output of a mask head inside the boxes of one image's instances, on a grid of m by m pixels.

    Attributes:
        logits: `[i, k]` are those of class k for instance i.
        labels: one per instance.
        truth: `[i]` is True inside the annotated mask of instance i.
    """

    logits: Float32[np.ndarray, "n k m m"]
    labels: Int64[np.ndarray, " n"]
    truth: Bool[np.ndarray, "n m m"]

    def __post_init__(self) -> None:
        """Freeze the arrays; raise AlloopError on wrong shapes or numbers that are not finite."""
        _freeze(self, "logits", self.logits, np.float32, (None, None, None, None))
        _freeze(self, "labels", self.labels, np.int64, (None,))
        _freeze(self, "truth", self.truth, np.bool_, (None, None, None))
        _same_length(self, logits=self.logits, labels=self.labels, truth=self.truth)

    @property
    def label_logits(self) -> Float32[np.ndarray, "n m m"]:
        """Logits of each instance's own class."""
        selected: np.ndarray = self.logits[np.arange(len(self.labels)), self.labels]
        return selected


@dataclass(frozen=True, slots=True, eq=False)
class InstanceScores:
    """A score for each instance.

    Attributes:
        image_ids: image of each instance.
        rows: its row among the annotations of that image.
        labels: its class.
        scores: its score.
    """

    image_ids: Int64[np.ndarray, " n"]
    rows: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]

    def __post_init__(self) -> None:
        """Freeze the arrays; raise AlloopError on unequal lengths or numbers that are not finite."""
        for name in ("image_ids", "rows", "labels"):
            _freeze(self, name, getattr(self, name), np.int64, (None,))
        _freeze(self, "scores", self.scores, np.float64, (None,))
        _same_length(self, image_ids=self.image_ids, rows=self.rows, labels=self.labels, scores=self.scores)

    def summed(self, image_ids: Int64[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """Return the sum of the scores of each image; `image_ids` ascend and contain every image with an instance."""
        return np.bincount(np.searchsorted(image_ids, self.image_ids), weights=self.scores, minlength=len(image_ids))
