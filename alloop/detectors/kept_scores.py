"""What a trained detector found in each image, kept on disk by batch, so that it is computed once.

The last bits of a result depend on the batch that an image was in. So an image keeps the batch in which it was first
asked for, whoever asks again, and a batch is kept and computed again as a whole. The bytes are then the same whether
they are computed or read, and a process that was killed goes on with the batches that are there.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from pycocotools import mask as coco_mask
from safetensors.numpy import load, save

from alloop.data.cache_folder import CacheFolder
from alloop.data.pixels import PixelCache
from alloop.values import ImageId

Arrays = Mapping[str, np.ndarray]
"""One image's result by name."""

Batch = tuple[ImageId, ...]


class KeptScores:
    """The results of one detector with one set of weights, by kind and batch."""

    def __init__(self, kept: CacheFolder, pixels: PixelCache, identity: Sequence[str]) -> None:
        """Read nothing yet.

        Args:
            kept: where the results are kept.
            pixels: the images at the size that the detector sees.
            identity: everything that determines a result besides the images: weights, parameters, versions.
        """
        self._kept, self._pixels, self._identity = kept, pixels, list(identity)
        self._batches: dict[str, dict[ImageId, Batch]] = {}

    def batches(
        self, kind: str, image_ids: Iterable[ImageId], cut: Callable[[Sequence[ImageId]], list[list[ImageId]]]
    ) -> list[Batch]:
        """Return the batches that hold the images; images that nobody asked for before are cut into new ones.

        Args:
            kind: of the result.
            image_ids: the images.
            cut: cuts images into batches.
        """
        batch_of = self._batches.setdefault(kind, {})
        wanted = sorted(set(image_ids))
        known = {batch_of[image_id]: None for image_id in wanted if image_id in batch_of}
        new = [tuple(batch) for batch in cut([image_id for image_id in wanted if image_id not in batch_of])]
        for batch in new:
            batch_of |= dict.fromkeys(batch, batch)
        return [*known, *new]

    def get(self, kind: str, batch: Batch) -> dict[ImageId, Arrays] | None:
        """Return the results of a batch; None where they are not kept."""
        data = self._kept.get(self._key(kind, batch))
        if data is None:
            return None
        results: dict[ImageId, dict[str, np.ndarray]] = {image_id: {} for image_id in batch}
        for name, array in load(bytes(data)).items():
            row, _, field = name.partition(" ")
            results[batch[int(row)]][field] = array
        return {image_id: _with_masks(arrays) for image_id, arrays in results.items()}

    def put(self, kind: str, batch: Batch, results: Mapping[ImageId, Arrays]) -> None:
        """Keep the results of a batch."""
        arrays = {
            f"{row} {field}": np.ascontiguousarray(array)
            for row, image_id in enumerate(batch)
            for field, array in _with_runs(results[image_id]).items()
        }
        self._kept.put(self._key(kind, batch), [save(arrays)])

    def _key(self, kind: str, batch: Batch) -> str:
        images = [self._pixels.key(image_id) for image_id in batch]
        return hashlib.sha256(json.dumps([self._identity, kind, images]).encode()).hexdigest()


def _with_runs(arrays: Arrays) -> Arrays:
    """Return arrays in which masks `[n, h, w]` of 0 and 1 are runs, which take a hundredth of the space."""
    if "masks" not in arrays:
        return arrays
    masks = arrays["masks"]
    runs = [mask["counts"] for mask in coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0)))]
    return {
        **{name: array for name, array in arrays.items() if name != "masks"},
        "runs": np.frombuffer(b"".join(runs), dtype=np.uint8),
        "runs_end": np.cumsum([0, *map(len, runs)], dtype=np.int64),
        "runs_shape": np.array(masks.shape, dtype=np.int64),
    }


def _with_masks(arrays: Arrays) -> Arrays:
    """Return the arrays of which `_with_runs` made these."""
    if "runs" not in arrays:
        return arrays
    count, height, width = arrays["runs_shape"].tolist()
    runs, ends = arrays["runs"].tobytes(), arrays["runs_end"].tolist()
    encoded = [{"size": [height, width], "counts": runs[a:b]} for a, b in itertools.pairwise(ends)]
    masks = coco_mask.decode(encoded).transpose(2, 0, 1) if count else np.zeros((0, height, width), dtype=np.uint8)
    kept = {name: array for name, array in arrays.items() if not name.startswith("runs")}
    return {**kept, "masks": np.ascontiguousarray(masks)}
