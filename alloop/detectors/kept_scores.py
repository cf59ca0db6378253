"""What a trained detector found in each image, kept on disk by batch, so that it is computed once.

The last bits of a result depend on the batch that an image was in. So an image keeps the batch in which it was first
asked for, whoever asks again, and a batch is kept and computed again as a whole. The bytes are then the same whether
they are computed or read, and a process that was killed goes on with the batches that are there.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
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
        return dict(results)

    def put(self, kind: str, batch: Batch, results: Mapping[ImageId, Arrays]) -> None:
        """Keep the results of a batch."""
        arrays = {
            f"{row} {field}": np.ascontiguousarray(array)
            for row, image_id in enumerate(batch)
            for field, array in results[image_id].items()
        }
        self._kept.put(self._key(kind, batch), [save(arrays)])

    def _key(self, kind: str, batch: Batch) -> str:
        images = [self._pixels.key(image_id) for image_id in batch]
        return hashlib.sha256(json.dumps([self._identity, kind, images]).encode()).hexdigest()
