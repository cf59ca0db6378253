"""A detector that is known by its files alone: what strategies see of somebody else's program."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float32

from alloop.errors import StrategyError
from alloop.predictions.embeddings import Embeddings
from alloop.predictions.predictions import Predictions
from alloop.predictions.regions import RegionFeatures
from alloop.query import Need
from alloop.strategy import unserved
from alloop.values import Detections, ImageId

SERVED_BY: Mapping[Need, str] = {
    Need.PREDICTIONS: "predictions of the pool (--predictions FILE)",
    Need.DETECTIONS: "predictions of the pool (--predictions FILE)",
    Need.EMBEDDINGS: "embeddings of the images (--embeddings FILE.npy)",
    Need.NOISY_DETECTIONS: "predictions of the same images with noise (--noisy SIGMA=FILE, one for each sigma)",
    Need.REGION_FEATURES: "vectors of predicted and labeled boxes (--regions FILE.npy, --labeled-regions FILE.npy)",
}
"""The file that serves a need; every other need asks for the network itself."""


class PredictedDetector:
    """A fitted detector whose answers were read from files; it implements `alloop.query.FittedDetector`."""

    def __init__(
        self,
        class_names: Sequence[str],
        predictions: Predictions | None,
        embeddings: Embeddings | None = None,
        noisy: Mapping[float, Predictions] | None = None,
        regions: RegionFeatures | None = None,
    ) -> None:
        """Keep what was read.

        Args:
            class_names: in label order.
            predictions: detections of the images; None where there are none.
            embeddings: vectors of the images; None where there are none.
            noisy: detections of the same images with added noise, by its standard deviation in steps of 0..255.
            regions: vectors of predicted and of labeled boxes; None where there are none.
        """
        self.class_names = tuple(class_names)
        self._predictions, self._embeddings, self._noisy = predictions, embeddings, dict(noisy or {})
        self._regions = regions

    @property
    def gives(self) -> frozenset[Need]:
        """The needs that the files serve."""
        given = {
            Need.DETECTIONS: self._predictions is not None,
            Need.EMBEDDINGS: self._embeddings is not None,
            Need.NOISY_DETECTIONS: bool(self._noisy),
            Need.REGION_FEATURES: self._regions is not None,
        }
        return frozenset(need for need, is_given in given.items() if is_given)

    def notes(self, image_ids: Sequence[ImageId]) -> list[str]:
        """Say what the detections of these images lack."""
        if self._predictions is None:
            return []
        spans = [self._predictions.span(image_id) for image_id in image_ids]
        without = sum(begin == end for begin, end in spans)
        empty = f"{without} of {len(spans)} images have no prediction: nothing was found there, or nobody looked"
        binary = "scores alone are known: uncertainty is that of the score against the rest, not over the classes"
        return [*([empty] if without else []), *([binary] if self._predictions.probabilities is None else [])]

    def detections(self, image_ids: Sequence[ImageId]) -> list[Detections]:
        """Return the detections of each image."""
        if self._predictions is None:
            _refuse(Need.DETECTIONS)
        return [self._predictions.of_image(image_id) for image_id in image_ids]

    def noisy_detections(self, image_ids: Sequence[ImageId], sigma: float, random_seed: int) -> list[Detections]:  # noqa: ARG002  the noise was drawn outside
        """Return the detections of each image with noise of this standard deviation."""
        if sigma not in self._noisy:
            known = ", ".join(f"{value:g}" for value in self._noisy) or "none"
            msg = (
                f"predictions with noise of sigma {sigma:g} are needed, and there are those of {known}; give "
                f"--noisy {sigma:g}=FILE, or set the sigmas of the strategy to those that there are"
            )
            raise StrategyError(msg)
        return [self._noisy[sigma].of_image(image_id) for image_id in image_ids]

    def class_probabilities(self, *_: Any, **__: Any) -> NoReturn:
        """Raise StrategyError: the files are those of a detector."""
        _refuse(Need.PREDICTIONS)

    def embeddings(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n d"]:
        """Return one vector per image."""
        if self._embeddings is None:
            _refuse(Need.EMBEDDINGS)
        return self._embeddings.of_images(image_ids)

    def region_features(
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "_ 4"]]
    ) -> list[Float32[np.ndarray, "_ d"]]:
        """Return one vector for each box, for each image; the boxes are predicted or labeled ones."""
        if self._regions is None:
            _refuse(Need.REGION_FEATURES)
        return [self._regions.of_boxes(image_id, boxes[image_id]) for image_id in image_ids]

    def classifier_outputs(self, *_: Any, **__: Any) -> NoReturn:
        """Raise StrategyError: no file gives this."""
        _refuse(Need.CLASSIFIER_FEATURES)

    @property
    def snapshots(self) -> int:
        """Number of known states of the training: none."""
        return 0

    def mask_pixels(self, *_: Any, **__: Any) -> NoReturn:
        """Raise StrategyError: no file gives this."""
        _refuse(Need.MASKS)

    def loss_predictions(self, *_: Any, **__: Any) -> NoReturn:
        """Raise StrategyError: no file gives this."""
        _refuse(Need.LOSS_PREDICTIONS)

    @property
    def last_layers(self) -> NoReturn:
        """Raise StrategyError: no file gives this."""
        _refuse(Need.LAST_LAYERS)

    def loss_gradient(self, *_: Any, **__: Any) -> NoReturn:
        """Raise StrategyError: no file gives this."""
        _refuse(Need.LAST_LAYERS)

    def curvature_product(self, *_: Any, **__: Any) -> NoReturn:
        """Raise StrategyError: no file gives this."""
        _refuse(Need.LAST_LAYERS)

    def loss_slopes(self, *_: Any, **__: Any) -> NoReturn:
        """Raise StrategyError: no file gives this."""
        _refuse(Need.LAST_LAYERS)

    def pseudo_label_slopes(self, *_: Any, **__: Any) -> NoReturn:
        """Raise StrategyError: no file gives this."""
        _refuse(Need.LAST_LAYERS)


def refuse_unserved(name: str, needs: frozenset[Need], gives: frozenset[Need]) -> None:
    """Raise StrategyError where a strategy needs more than was given, and say which file would serve it."""
    missing = unserved(needs, gives)
    files = [SERVED_BY[need] for need in missing if need in SERVED_BY]
    others = [str(need) for need in missing if need not in SERVED_BY]
    if others:
        listed = ", ".join(others)
        msg = f"{name} needs {listed}, which no file gives: it asks for the network itself, inside `alloop run`"
        raise StrategyError(msg)
    if files:
        raise StrategyError(f"{name} needs {' and '.join(files)}")


def _refuse(need: Need) -> NoReturn:
    msg = f"{need} are not known: {SERVED_BY.get(need, 'no file gives them')}"
    raise StrategyError(msg)
