"""A strategy may pick the seed set of a simulated run; a study's strategies share it, and rules of purchases hold."""

import re
from itertools import combinations

import pytest

from alloop.config import parse_config
from alloop.errors import ConfigError
from alloop.ledger.perceptual_hashes import recorded_perceptual_hashes
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from strategies import TABLE
from tests.support import small_tree


def seed_set(folder, scenes=None, **loop):
    tree = small_tree(**({"data.digit_scenes": scenes} if scenes else {}))
    tree["loop"] |= {"rounds": 1, **loop}
    run_experiment(parse_config(tree), folder, TABLE)
    with read_ledger(folder) as ledger:
        charged = ledger.charged()
        return [c.image_id for c in ledger.charges() if c.round == 0], charged[0].boxes


def test_max_herding_picks_the_seed_set_and_a_larger_one_begins_with_a_smaller_one(tmp_path):
    chosen, _ = seed_set(tmp_path / "a", seed_set=6, first_batch="max_herding")
    again, _ = seed_set(tmp_path / "b", seed_set=6, first_batch="max_herding")
    larger, _ = seed_set(tmp_path / "c", seed_set=9, first_batch="max_herding")
    random, _ = seed_set(tmp_path / "d", seed_set=6)
    assert chosen == again
    assert set(chosen) < set(larger)
    assert set(chosen) != set(random)


def test_a_seed_set_in_boxes_is_the_head_of_the_same_ranking(tmp_path):
    images, paid = seed_set(tmp_path / "images", seed_set=8, first_batch="k_center")
    boxes, for_boxes = seed_set(tmp_path / "boxes", seed_set=f"{paid} boxes", first_batch="k_center")
    assert set(boxes) <= set(images), "images without a box at the end are not needed"
    assert for_boxes == paid


def test_what_cannot_pick_a_seed_set_is_refused_before_anything_is_hashed(tmp_path):
    for name, words in (
        ("entropy", "loop.first_batch: 'entropy' needs predictions, and nothing is trained yet; try max_herding"),
        ("max_hording", "did you mean 'max_herding'"),
    ):
        with pytest.raises(ConfigError, match=re.escape(words)):
            seed_set(tmp_path / name, first_batch=name)
    (tmp_path / "ids.txt").write_text("1\n")
    with pytest.raises(ConfigError, match=r"would pick the seed set, and loop.seed_images names it"):
        seed_set(tmp_path / "both", first_batch="k_center", seed_images=str(tmp_path / "ids.txt"))


def test_near_duplicates_are_passed_over_in_the_first_batch_too(tmp_path):
    scenes = {"pool": 24, "reference": 4, "test": 8, "max_digits": 3, "duplicates": 0.5}
    nearest = {}
    for name, rule in (("free", {}), ("apart", {"min_distance": "28 bits"})):
        chosen, _ = seed_set(tmp_path / name, scenes, seed_set=5, first_batch="k_center", **rule)
        with read_ledger(tmp_path / name) as ledger:
            hashes = recorded_perceptual_hashes(ledger)
        pairs = combinations([int(hashes[image_id]) for image_id in chosen], 2)
        nearest[name] = min((a ^ b).bit_count() for a, b in pairs)
    assert nearest["apart"] >= 28 > nearest["free"]
