"""The embedded set: deterministic, disjoint in its originals, with what its parameters promise."""

import json
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from alloop.data.digit_files import export_digit_scenes
from alloop.data.digits import DigitScenes, digit_scenes, originals_of
from alloop.data.formats.coco import read_coco
from alloop.data.images import decode
from alloop.data.perceptual_hash import hash_of_pixels
from alloop.data.validation import validate
from alloop.errors import ConfigError
from alloop.geometry.masks import decode_mask


def scenes(part="pool", count=200, **parameters):
    return digit_scenes(DigitScenes(**parameters), part, count)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    digit_scenes.cache_clear()
    first = scenes()
    digit_scenes.cache_clear()
    again = scenes()
    assert first.dataset.fingerprint() == again.dataset.fingerprint()
    assert all(np.array_equal(first.images.read(i), again.images.read(i)) for i in first.dataset.images)
    assert scenes(scene_seed=1).dataset.fingerprint() != first.dataset.fingerprint()


def test_no_original_is_shared_between_parts():
    parts = [set(originals_of(p)) for p in ("pretrain", "pool", "reference", "test")]
    assert sum(len(p) for p in parts) == len(set().union(*parts)) == 1797


def test_ids_of_parts_do_not_meet():
    assert not set(scenes("pool").dataset.images) & set(scenes("test").dataset.images)


def test_classes_are_imbalanced_in_the_pool_only():
    def shares(part):
        labels = np.concatenate([a.labels for a in scenes(part, 600).dataset.annotations.values()])
        return Counter(labels.tolist())

    pool, test = shares("pool"), shares("test")
    assert pool[0] > 5 * max(1, pool[9])
    assert max(test.values()) < 2 * min(test.values())


def test_empty_images_and_occlusion_follow_their_parameters():
    counts = [len(a) for a in scenes(empty=0.5, count=400, duplicates=0.0).dataset.annotations.values()]
    assert 0.4 < np.mean([c == 0 for c in counts]) < 0.6
    assert min(len(a) for a in scenes(empty=0.0, count=100).dataset.annotations.values()) >= 1


def test_near_duplicates_resemble_their_twin():
    found = scenes(duplicates=0.5, count=120)
    ids = sorted(found.dataset.images)
    small = np.stack([found.images.read(i)[::8, ::8].astype(float).ravel() for i in ids])
    distance = np.abs(small[:, None] - small[None]).mean(axis=2) + 1e9 * np.eye(len(ids))
    assert (distance.min(axis=1) < 20).mean() > 0.5
    plain = scenes(duplicates=0.0, count=120)
    small = np.stack([plain.images.read(i)[::8, ::8].astype(float).ravel() for i in ids])
    distance = np.abs(small[:, None] - small[None]).mean(axis=2) + 1e9 * np.eye(len(ids))
    assert (distance.min(axis=1) < 20).mean() < 0.4


def test_boxes_are_tight_around_their_masks():
    found = scenes(count=60)
    for image_id, truth in found.dataset.annotations.items():
        for box, mask in zip(truth.boxes, truth.masks, strict=True):
            ys, xs = np.nonzero(decode_mask(mask, 64, 64, str(image_id)))
            assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_export_is_a_valid_coco_data_set_with_the_same_pixels(tmp_path):
    paths = export_digit_scenes(tmp_path, ["pool=12", "reference=3", "test=4"])
    assert [p.name for p in paths] == ["instances_pool.json", "instances_reference.json", "instances_test.json"]
    data = validate(read_coco(paths[0]), "pool")
    made = digit_scenes(DigitScenes(pool=12, reference=3, test=4), "pool", 12)
    assert data.fingerprint() == made.dataset.fingerprint()
    for image_id, record in data.images.items():
        pixels = decode((tmp_path / "images" / record.file_name).read_bytes(), record.file_name)
        assert np.array_equal(pixels, made.images.read(image_id))
    assert json.loads(paths[0].read_text())["annotations"][0]["segmentation"]["size"] == [64, 64]


def test_wrong_parameters_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'pool'"):
        export_digit_scenes(tmp_path, ["pol=12"])
    with pytest.raises(ValidationError):
        DigitScenes(empty=2.0)


def test_a_clip_is_one_scene_that_drifts_and_its_file_names_say_so():
    parameters = DigitScenes(pool=24, video=8, empty=0, duplicates=0.9)
    clips = digit_scenes(parameters, "pool", 24)
    names = [record.file_name for record in clips.dataset.images.values()]
    assert names[8:10] == ["pool/clip1000008/1000008.png", "pool/clip1000008/1000009.png"]
    assert len({name.rpartition("/")[0] for name in names}) == 3
    hashes = [hash_of_pixels(clips.images.read(image_id)) for image_id in clips.dataset.images]
    for clip in range(0, 24, 8):
        assert max((hashes[clip + k] ^ hashes[clip + k + 1]).bit_count() for k in range(7)) <= 12
    assert min((a ^ b).bit_count() for a in hashes[:8] for b in hashes[8:]) > 12
    first, last = (clips.dataset.annotations[1000000 + frame] for frame in (0, 7))
    assert set(last.labels) <= set(first.labels), "nothing appears, though a digit may leave the picture"
    boxes = {image_id: truth.boxes[0].tolist() for image_id, truth in clips.dataset.annotations.items() if len(truth)}
    assert any(boxes[clip] != boxes[clip + 3] for clip in (1000000, 1000008, 1000016)), "the digits move"
    for record in clips.records.annotations:
        assert record.bbox[2] >= 1
        assert record.bbox[3] >= 1


def test_the_first_frame_of_a_clip_shows_the_scene_of_a_single_image_with_other_noise():
    still = digit_scenes(DigitScenes(pool=1, duplicates=0), "pool", 1)
    clip = digit_scenes(DigitScenes(pool=1, video=8), "pool", 1)
    difference = still.images.read(1_000_000).astype(float) - clip.images.read(1_000_000)
    assert 0 < np.abs(difference).mean() < 15
    assert [box.bbox for box in still.records.annotations] == [box.bbox for box in clip.records.annotations]
