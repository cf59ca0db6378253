"""Features of frozen layers are the same bytes from an empty, warm, full, damaged or deleted cache."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from alloop.data.cache_folder import CacheFolder
from alloop.data.images import FolderImages
from alloop.data.pixels import PixelCache
from alloop.detectors.frozen_features import FrozenFeatureCache
from alloop.detectors.protocol import FrozenFeatures
from alloop.detectors.transfer import to_tensors
from alloop.errors import DamagedFileError
from alloop.files import sha256_file
from alloop.values import ImageRecord
from tests.support.detectors import Source, make
from tests.support.frozen import random_weights

CPU = torch.device("cpu")


class Layers:
    """Frozen layers that count how often they compute."""

    def __init__(self, sha256="a"):
        self.sha256, self.computed = sha256, 0

    def __call__(self, image):
        self.computed += 1
        return FrozenFeatures((image * 3, image.mean(dim=(1, 2), keepdim=True)), tuple(image.shape))


class Hashed(Source):
    def sha256(self, image_id):
        return str(self.pixels[image_id].sum())


def features(layers, folder, *, source=None, limit=10**8, said=None, **changes):
    source = source or Hashed([(96, 64), (64, 64), (192, 128)])
    pixels = PixelCache(source, 64, 96)
    kept = None if folder is None else CacheFolder(folder, limit, (said if said is not None else []).append)
    return FrozenFeatureCache(layers, pixels, kept, device=CPU, **changes)


def all_of(read):
    return [read.read(i, mirrored=mirrored) for i in range(3) for mirrored in (False, True)]


def equal(a, b):
    return all(
        x.shape == y.shape and all(torch.equal(m, n) for m, n in zip(x.maps, y.maps, strict=True))
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_state_of_the_cache_gives_the_same_bytes(tmp_path, dtype):
    without = all_of(features(Layers(), None, dtype=dtype))
    assert all(level.dtype == torch.float32 for image in without for level in image.maps)
    cold, warm = Layers(), Layers()
    assert equal(all_of(features(cold, tmp_path / "c", dtype=dtype)), without)
    assert cold.computed == 6
    assert equal(all_of(features(warm, tmp_path / "c", dtype=dtype)), without)
    assert warm.computed == 0
    for path in list((tmp_path / "c").glob("*/*"))[:2]:
        path.write_bytes(path.read_bytes()[:-1])
    damaged, said = Layers(), []
    assert equal(all_of(features(damaged, tmp_path / "c", dtype=dtype, said=said)), without)
    assert damaged.computed == 2
    assert len(said) == 1
    full = Layers()
    assert equal(all_of(features(full, tmp_path / "full", dtype=dtype, limit=100)), without)
    assert full.computed == 6
    deleted = features(Layers(), tmp_path / "c", dtype=dtype)
    shutil.rmtree(tmp_path / "c")
    assert equal(all_of(deleted), without)


def test_half_precision_rounds_also_what_is_not_kept(tmp_path):
    single, half = (all_of(features(Layers(), None, dtype=dtype)) for dtype in (torch.float32, torch.float16))
    assert not equal(single, half)
    assert torch.equal(half[0].maps[0], single[0].maps[0].half().float())


def test_mirrored_features_are_those_of_the_mirrored_image(tmp_path):
    read = features(Layers(), tmp_path)
    pixels = Hashed([(96, 64), (64, 64), (192, 128)]).pixels[0]
    expected = to_tensors([np.ascontiguousarray(pixels[:, ::-1])], CPU)[0] * 3
    for _ in range(2):
        assert torch.equal(read.read(0, mirrored=True).maps[0], expected)


def test_other_weights_sizes_images_threads_and_precisions_are_other_entries(tmp_path):
    source = Hashed([(96, 64), (96, 64)])
    first = Layers()
    features(first, tmp_path, source=source).read(0)
    assert features(Layers(), tmp_path, source=source).is_kept(0)
    assert not features(Layers(), tmp_path, source=source).is_kept(0, mirrored=True)
    assert not features(Layers(), tmp_path, source=source).is_kept(1)
    assert not features(Layers("b"), tmp_path, source=source).is_kept(0)
    assert not features(Layers(), tmp_path, source=source, dtype=torch.float16).is_kept(0)
    larger = PixelCache(source, 32, 96)
    assert not FrozenFeatureCache(Layers(), larger, CacheFolder(tmp_path, 10**8), device=CPU).is_kept(0)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert not features(Layers(), tmp_path, source=source).is_kept(0)
    finally:
        torch.set_num_threads(threads)
    changed = Hashed([(96, 64), (96, 64)])
    changed.pixels[0] = changed.pixels[0] // 2
    assert not features(Layers(), tmp_path, source=changed).is_kept(0)


def test_an_image_of_the_same_content_is_computed_once(tmp_path):
    source = Hashed([(96, 64), (96, 64)])
    source.pixels[1] = source.pixels[0]
    layers = Layers()
    read = features(layers, tmp_path, source=source)
    read.read(0)
    read.read(1)
    assert layers.computed == 1


def test_what_a_real_network_computes_is_kept_as_it_is(tmp_path):
    made = make("fcos", "mobilenet_v3_small", weights=random_weights("mobilenet_v3_small", tmp_path))
    layers = made.frozen_layers()
    cold, warm = (all_of(features(layers, tmp_path / "cache")) for _ in range(2))
    assert equal(cold, warm)
    assert made.detect([cold[0]])[0]["scores"].tolist() == made.detect([warm[0]])[0]["scores"].tolist()


def test_a_file_that_changed_is_refused_although_its_features_are_kept(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((64, 96, 3), 7, np.uint8)).save(path)
    source = FolderImages(tmp_path, {0: ImageRecord(0, "a.png", 96, 64)})
    source.expected = {0: sha256_file(path)}

    def in_a_process():
        return FrozenFeatureCache(Layers(), PixelCache(source, 64, 96), CacheFolder(tmp_path / "c", 10**8), device=CPU)

    first = in_a_process()
    first.read(0)
    Image.fromarray(np.full((64, 96, 3), 8, np.uint8)).save(path)
    first.read(0)  # a process compares a file once
    with pytest.raises(DamagedFileError, match="changed"):
        in_a_process().read(0)
