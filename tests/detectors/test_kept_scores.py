"""A detector scores an image once, and the bytes are the same from any state of the disk."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.data.cache_folder import RecentFolder
from alloop.data.pixels import PixelCache
from alloop.detectors.fitted import FittedTorchDetector
from alloop.detectors.kept_scores import KeptScores, _with_masks, _with_runs
from alloop.detectors.loss_prediction import attach_module
from alloop.strategy import LossPrediction
from alloop.values import ImageId
from tests.support.detectors import Source, confident, make

SIZES = [(96, 64)] * 7 + [(64, 64)] * 4 + [(192, 128)] * 2
IDS = [ImageId(k) for k in range(len(SIZES))]


class Hashed(Source):
    def sha256(self, image_id):
        return str(self.pixels[image_id].sum())


class Counted:
    """A detector that counts the images that it detects in and embeds."""

    def __init__(self, detector):
        self.module, self.real, self.seen = detector.module, detector, []

    def losses(self, images, targets): ...

    def detect(self, images):
        self.seen.append(len(images))
        return self.real.detect(images)

    def embed(self, images):
        self.seen.append(len(images))
        return self.real.embed(images)


@pytest.fixture(scope="module")
def network():
    return confident("fcos").scoring_copy()


def reader(detector, folder, *, identity="a", limit=10**8):
    """Return a fitted detector that keeps its scores in a folder; None keeps none."""
    source = Hashed(SIZES)
    pixels = PixelCache(source, 64, 96)
    kept = folder and KeptScores(RecentFolder(folder, limit, lambda _: None), pixels, [identity])
    return FittedTorchDetector(
        detector,
        source,
        pixels,
        ("a", "b", "c"),
        gives=frozenset(),
        batch_size=4,
        device=torch.device("cpu"),
        scores=kept or None,
    )


def fitted(network, folder, **changes):
    """Return a reader, and the sizes of the batches that it lets the network see."""
    counted = Counted(network)
    return reader(counted, folder, **changes), counted.seen


def same(a, b):
    fields = ("boxes", "scores", "labels", "probabilities")
    return all(np.array_equal(getattr(x, f), getattr(y, f)) for x, y in zip(a, b, strict=True) for f in fields)


def requests(seen):
    """Return what a round asks for: the pool, some of it again, then images that it knows and images that are new."""
    return [seen.detections(ids) for ids in (IDS[:9], IDS[5:2:-1], IDS[7:])]


def all_same(a, b):
    return all(same(x, y) for x, y in zip(a, b, strict=True))


def test_each_image_is_scored_once(network, tmp_path):
    seen, counts = fitted(network, tmp_path)
    plain, _ = fitted(network, None)
    first = requests(seen)
    assert sum(counts) == len(IDS)
    assert same(first[0], plain.detections(IDS[:9]))
    assert same(first[1], [first[0][5], first[0][4], first[0][3]])


@pytest.mark.parametrize("harm", ["nothing", "damage", "delete", "full", "kill"])
def test_every_state_of_the_disk_gives_the_same_bytes(network, tmp_path, harm):
    expected = requests(fitted(network, tmp_path / "straight")[0])
    folder = tmp_path / "kept"
    seen, _ = fitted(network, folder, limit=100 if harm == "full" else 10**8)
    results = requests(seen)
    if harm == "damage":
        for path in folder.glob("??/*"):
            path.write_bytes(path.read_bytes()[:-3])
    if harm == "delete":
        shutil.rmtree(folder)
    if harm == "kill":
        for path in list(folder.glob("??/*"))[::2]:
            path.unlink()
    assert all_same(results, expected)
    assert all_same(requests(seen), expected)
    again, counts = fitted(network, folder)
    assert all_same(requests(again), expected)
    assert sum(counts) == (len(IDS) if harm == "full" else 0)  # what was computed again is kept again


def test_a_process_that_was_killed_goes_on_with_the_batches_that_are_there(network, tmp_path):
    expected = requests(fitted(network, tmp_path / "straight")[0])
    seen, _ = fitted(network, tmp_path / "kept")
    detect, done = seen.detector.detect, []

    def killed(images):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(len(images))
        return detect(images)

    seen.detector.detect = killed
    with pytest.raises(KeyboardInterrupt):
        requests(seen)
    again, counts = fitted(network, tmp_path / "kept")
    assert all_same(requests(again), expected)
    assert sum(counts) == len(IDS) - sum(done)


def test_embeddings_are_kept_too_and_apart(network, tmp_path):
    seen, counts = fitted(network, tmp_path)
    vectors = seen.embeddings(IDS)
    again, later = fitted(network, tmp_path)
    assert np.array_equal(again.embeddings(IDS[::-1])[::-1], vectors)
    assert np.array_equal(vectors, fitted(network, None)[0].embeddings(IDS))
    assert (sum(counts), sum(later)) == (len(IDS), 0)
    again.detections(IDS)
    assert sum(later) == len(IDS)


def test_another_detector_reads_nothing_of_it(network, tmp_path):
    fitted(network, tmp_path)[0].detections(IDS)
    other, counts = fitted(network, tmp_path, identity="b")
    other.detections(IDS)
    assert sum(counts) == len(IDS)


def test_an_image_that_changed_is_scored_again(network, tmp_path):
    fitted(network, tmp_path)[0].detections(IDS)
    seen, counts = fitted(network, tmp_path)
    seen._source.pixels[0] = seen._source.pixels[0] // 2
    seen.detections(IDS)
    assert counts == [4]


def test_noise_is_never_kept(network, tmp_path):
    seen, counts = fitted(network, tmp_path)
    for _ in range(2):
        seen.noisy_detections(IDS[:4], 8.0, 0)
    assert sum(counts) == 8
    assert not list(tmp_path.glob("??/*"))


def test_masks_are_kept_bit_by_bit(tmp_path):
    seen, _ = fitted(make("mask_rcnn"), tmp_path)
    first = seen.detections(IDS)
    again, counts = fitted(make("mask_rcnn"), tmp_path)
    assert all_same([first], [again.detections(IDS)])
    assert counts == []
    for image_id, a, b in zip(IDS, first, again.detections(IDS), strict=True):
        width, height = SIZES[image_id]
        assert a.masks.shape == (len(a.boxes), height, width)
        assert a.masks.dtype == b.masks.dtype == np.uint8
        assert np.array_equal(a.masks, b.masks)
    assert any(detections.masks.any() and not detections.masks.all() for detections in first)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), shape=st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9)))
def test_masks_come_back_from_their_runs(seed, shape):
    chance = np.random.default_rng(seed)
    masks = (chance.random(shape) < chance.random()).astype(np.uint8)
    arrays = {"masks": masks, "scores": chance.random(shape[0])}
    back = _with_masks(_with_runs(arrays))
    assert set(back) == set(arrays)
    assert np.array_equal(back["scores"], arrays["scores"])
    assert back["masks"].shape == shape
    assert np.array_equal(back["masks"], masks)


def test_predicted_losses_are_kept(tmp_path):
    detector = make("fcos")
    attach_module(detector, LossPrediction())
    first, again = reader(detector, tmp_path), reader(detector, tmp_path)
    losses = first.loss_predictions(IDS)

    def nothing_missing(_frozen, _task, missing):
        assert missing == []
        return iter([])

    again._read = nothing_missing
    assert np.array_equal(again.loss_predictions(IDS[::-1]), losses[::-1])
    assert len(set(losses.tolist())) > 1
