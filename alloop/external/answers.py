"""The checked answers of a program outside, as the detector of a round: they stand where its weights would.

They are kept in one safetensors file, since the files that they came from may be moved or changed afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from safetensors.numpy import load, save

from alloop.predictions.embeddings import Embeddings
from alloop.predictions.fitted import PredictedDetector
from alloop.predictions.predictions import Predictions
from alloop.predictions.regions import RegionFeatures
from alloop.values import ImageId, read_only

_ARRAYS = ("ends", "boxes", "scores", "labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a program answered in a round.

    Attributes:
        class_names: in label order.
        predictions: by the set of images: `pool`, `test` and perhaps `reference`.
        noisy: predictions of the pool under noise, by its standard deviation.
        embeddings: vectors of the pool's images; None where they were not asked.
        regions: vectors of the predicted boxes of the pool and of the labeled boxes; None where they were not asked.
    """

    class_names: tuple[str, ...]
    predictions: Mapping[str, Predictions]
    noisy: Mapping[float, Predictions] = field(default_factory=dict)
    embeddings: Embeddings | None = None
    regions: RegionFeatures | None = None

    def detector_of(self, name: str) -> PredictedDetector:
        """Return the detector as it is seen on one set of images."""
        if name != "pool":
            return PredictedDetector(self.class_names, self.predictions[name])
        return PredictedDetector(self.class_names, self.predictions[name], self.embeddings, self.noisy, self.regions)

    def to_bytes(self) -> bytes:
        """Return the content of the file; equal answers give equal bytes."""
        parts = {**self.predictions, **{f"noisy {sigma!r}": part for sigma, part in self.noisy.items()}}
        arrays = {f"{name}/{key}": array for name, part in parts.items() for key, array in _arrays(part).items()}
        if self.embeddings is not None:
            ids = np.array(list(self.embeddings.rows), dtype=np.int64)
            arrays |= {
                "embeddings/images": ids,
                "embeddings/vectors": self.embeddings.of_images(list(self.embeddings.rows)),
            }
        if self.regions is not None:
            arrays |= {f"regions/{key}": array for key, array in _region_arrays(self.regions).items()}
        return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})

    @classmethod
    def from_bytes(cls, data: bytes, class_names: tuple[str, ...], place: str) -> "Answers":
        """Read what `to_bytes` returned; `place` names the file in messages."""
        arrays = load(data)
        names = [name.removesuffix("/scores") for name in arrays if name.endswith("/scores")]
        parts = {name: _predictions(arrays, name, len(class_names)) for name in names}
        embeddings = None
        if "embeddings/vectors" in arrays:
            rows = {ImageId(int(i)): row for row, i in enumerate(arrays["embeddings/images"])}
            embeddings = Embeddings(place, arrays["embeddings/vectors"], rows)
        return cls(
            class_names=class_names,
            predictions={name: part for name, part in parts.items() if not name.startswith("noisy ")},
            noisy={float(name.split()[1]): part for name, part in parts.items() if name.startswith("noisy ")},
            embeddings=embeddings,
            regions=_regions(arrays) if "regions/vectors" in arrays else None,
        )


def _arrays(part: Predictions) -> dict[str, np.ndarray]:
    arrays = {key: getattr(part, key) for key in _ARRAYS} | {"images": np.array(list(part.rows), dtype=np.int64)}
    return arrays if part.probabilities is None else {**arrays, "probabilities": part.probabilities}


def _region_arrays(regions: RegionFeatures) -> dict[str, np.ndarray]:
    images = np.array(list(regions.rows), dtype=np.int64)
    return {"images": images, "ends": regions.ends, "boxes": regions.boxes, "vectors": regions.vectors}


def _regions(arrays: Mapping[str, np.ndarray]) -> RegionFeatures:
    rows = {ImageId(int(i)): row for row, i in enumerate(arrays["regions/images"])}
    return RegionFeatures(rows, *(arrays[f"regions/{key}"] for key in ("ends", "boxes", "vectors")))


def _predictions(arrays: Mapping[str, np.ndarray], name: str, classes: int) -> Predictions:
    ends, boxes, scores, labels = (read_only(arrays[f"{name}/{key}"]) for key in _ARRAYS)
    probabilities = arrays.get(f"{name}/probabilities")
    return Predictions(
        rows={ImageId(int(i)): row for row, i in enumerate(arrays[f"{name}/images"])},
        probabilities=None if probabilities is None else read_only(probabilities),
        classes=classes,
        ends=ends,
        boxes=boxes,
        scores=scores,
        labels=labels,
    )
