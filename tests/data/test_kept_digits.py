"""The embedded set that is kept is the one that would be drawn, to the last byte."""

import numpy as np
import pytest

from alloop.config.blocks import DataConfig
from alloop.data import kept_digits
from alloop.data.cache_folder import CacheFolder
from alloop.data.digits import DigitScenes, digit_pixels, digit_scenes
from alloop.data.kept_digits import kept_digit_scenes
from alloop.data.splits import load_splits

SMALL = {"pool": 12, "reference": 5, "test": 6}


def folder(tmp_path):
    return CacheFolder(tmp_path / "cache", 1 << 30, lambda _: None)


def contents(dataset, images):
    truths = {
        image_id: (
            t.boxes.tobytes(),
            t.labels.tobytes(),
            t.crowd.tobytes(),
            t.trainable.tobytes(),
            t.ids.tobytes(),
            [bytes(m) for m in t.masks],
        )
        for image_id, t in dataset.annotations.items()
    }
    pixels = {image_id: (images.read(image_id).tobytes(), images.sha256(image_id)) for image_id in dataset.images}
    return dataset.name, dataset.images, dataset.class_names, dataset.fingerprint(), truths, pixels


@pytest.mark.parametrize("tree", [{}, {"video": 4}, {"empty": 0.9, "size": 32}])
@pytest.mark.parametrize("part", ["pool", "test"])
def test_what_is_kept_is_what_is_drawn(tmp_path, monkeypatch, tree, part):
    parameters = DigitScenes(**tree)
    drawn = digit_scenes(parameters, part, 9)
    expected = contents(drawn.dataset, drawn.images)
    assert contents(*kept_digit_scenes(parameters, part, 9, None)) == expected
    assert contents(*kept_digit_scenes(parameters, part, 9, folder(tmp_path))) == expected
    monkeypatch.setattr(kept_digits, "digit_scenes", None)
    assert contents(*kept_digit_scenes(parameters, part, 9, folder(tmp_path))) == expected


def test_other_parameters_parts_counts_and_versions_are_drawn_anew(tmp_path, monkeypatch):
    kept, asked = folder(tmp_path), []

    def spy(*arguments):
        asked.append(arguments)
        return digit_scenes(*arguments)

    monkeypatch.setattr(kept_digits, "digit_scenes", spy)
    base, other = DigitScenes(), DigitScenes(scene_seed=1)
    different = [(base, "pool", 4), (other, "pool", 4), (base, "test", 4), (base, "pool", 5)]
    for arguments in different * 2:
        assert len(kept_digit_scenes(*arguments, kept)[0].images) == arguments[2]
    assert asked == different
    monkeypatch.setattr(kept_digits, "_DRAWN_BY", "another version")
    kept_digit_scenes(*different[0], kept)
    assert asked == [*different, different[0]]


def test_a_damaged_entry_is_drawn_anew(tmp_path):
    config = DataConfig(digit_scenes=SMALL)
    first = load_splits(config, kept=folder(tmp_path)).fingerprint()
    entries = list((tmp_path / "cache").glob("??/*"))
    assert len(entries) == 3
    for path in entries:
        path.write_bytes(path.read_bytes()[:-3])
    assert load_splits(config, kept=folder(tmp_path)).fingerprint() == first
    assert load_splits(config).fingerprint() == first


def test_one_image_alone_is_the_one_of_its_part():
    for tree in ({}, {"video": 3}):
        parameters = DigitScenes(**tree)
        scenes = digit_scenes(parameters, "pool", 8)
        for image_id in scenes.dataset.images:
            assert np.array_equal(digit_pixels(parameters, "pool", image_id), scenes.images.read(image_id))
