"""The features of frozen layers by image id: computed once, then read from the cache folder.

They are the same bytes whether they are computed or read, so a cache that is empty, full or damaged changes no result.
"""

import hashlib
import json

import numpy as np
import torch
from torch import Tensor

from alloop.data.cache_folder import CacheFolder
from alloop.data.pixels import PixelCache
from alloop.detectors.protocol import FrozenFeatures, FrozenLayers
from alloop.detectors.transfer import to_tensors
from alloop.values import ImageId


class FrozenFeatureCache:
    """What the frozen layers of a detector make of each image, mirrored or not."""

    def __init__(
        self,
        layers: FrozenLayers,
        pixels: PixelCache,
        kept: CacheFolder | None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device,
    ) -> None:
        """Compute nothing yet.

        Args:
            layers: the frozen layers.
            pixels: the images at the size that the detector sees.
            kept: where features are kept; None computes them at each use.
            dtype: of the features as they are kept. They are rounded to it also where they are not kept.
            device: of the layers and of the returned features.
        """
        self._layers, self._pixels, self._kept = layers, pixels, kept
        self._dtype, self._device = dtype, device
        self._shared_key = json.dumps([layers.sha256, str(dtype), *computed_by(device)])

    def read(self, image_id: ImageId, *, mirrored: bool = False) -> FrozenFeatures:
        """Return the features of an image, or of its horizontal mirror image, in float32.

        Raises:
            DataError: the image cannot be read.
            DamagedFileError: its file is not the one that was recorded.
        """
        if self._kept is None:
            return self._computed(image_id, mirrored=mirrored)
        key = self._key(image_id, mirrored=mirrored)
        width, height = self._pixels.size(image_id)
        data = self._kept.get(key)
        if data is not None:
            self._pixels.refuse_changed(image_id)
            maps = tuple(level.to(self._device).float() for level in _maps_of(data, self._dtype))
            return FrozenFeatures(maps, (3, height, width))
        features = self._computed(image_id, mirrored=mirrored)
        self._kept.put(key, _parts_of([level.to(self._dtype) for level in features.maps]))
        return features

    def is_kept(self, image_id: ImageId, *, mirrored: bool = False) -> bool:
        """Return whether the features need no pixels."""
        return self._kept is not None and self._key(image_id, mirrored=mirrored) in self._kept

    def _computed(self, image_id: ImageId, *, mirrored: bool) -> FrozenFeatures:
        pixels = self._pixels.read(image_id)
        (image,) = to_tensors([pixels[:, ::-1] if mirrored else pixels], self._device)
        features = self._layers(image)
        return FrozenFeatures(tuple(level.to(self._dtype).float() for level in features.maps), features.shape)

    def _key(self, image_id: ImageId, *, mirrored: bool) -> str:
        own = f"{self._shared_key} {self._pixels.key(image_id)} {mirrored}"
        return hashlib.sha256(own.encode()).hexdigest()


def computed_by(device: torch.device) -> list[str]:
    """Return what the last bits depend on besides weights and pixels."""
    return [device.type, torch.__version__, torch.backends.cpu.get_cpu_capability(), str(torch.get_num_threads())]


def _parts_of(maps: list[Tensor]) -> list[bytes | memoryview]:
    """Return the number of maps and their shapes as whole numbers, then the maps."""
    numbers = np.array([len(maps), *(side for level in maps for side in level.shape)], dtype=np.int64)
    arrays = [np.ascontiguousarray(level.cpu().numpy()) for level in maps]
    return [numbers.tobytes(), *(array.data.cast("B") for array in arrays)]


def _maps_of(data: memoryview, dtype: torch.dtype) -> list[Tensor]:
    """Return the maps whose parts `_parts_of` returned."""
    count = int(np.frombuffer(data, dtype=np.int64, count=1)[0])
    shapes = np.frombuffer(data, dtype=np.int64, count=3 * count, offset=8).reshape(count, 3).tolist()
    offset, maps = 8 * (1 + 3 * count), []
    for shape in shapes:
        numbers = int(np.prod(shape))
        maps.append(torch.frombuffer(data, dtype=dtype, count=numbers, offset=offset).reshape(shape))
        offset += numbers * dtype.itemsize
    return maps
