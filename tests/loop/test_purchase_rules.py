"""The rules of a purchase, each against comparing with every image one by one, and both in whole runs."""

import json
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.budget.charges import PassedOver
from alloop.config import parse_config
from alloop.config.blocks import LoopConfig
from alloop.data.digit_files import export_digit_scenes
from alloop.data.fingerprints import fingerprint
from alloop.data.leaks import unit_vectors
from alloop.data.splits import load_splits
from alloop.errors import ConfigError, WaitingError
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.experiment import prepare
from alloop.loop.purchase_rules import (
    EmbeddingDistance,
    GroupLimit,
    HashDistance,
    passed_over_lines,
    random_seed_set,
    rules_of,
)
from alloop.report.page import write_report
from alloop.results.compare import compare_runs
from alloop.results.near_duplicates import near_duplicates
from strategies import TABLE
from tests.support import small_tree
from tests.support.people import Annotator, tree_of

HASHES = st.dictionaries(st.integers(0, 12), st.sampled_from([0, 1, 3, 7, 15, 2**63, 2**63 + 1]), max_size=12)


def walked(rule, image_ids):
    """The images that a rule admits one after the other."""
    taken = []
    for image_id in image_ids:
        if rule.admits(image_id):
            rule.take(image_id)
            taken.append(image_id)
    return taken


@given(HASHES, st.lists(st.integers(0, 12), unique=True), st.sets(st.integers(0, 12)), st.integers(1, 5))
def test_hashes_are_at_least_so_far_from_all_that_was_labeled_or_taken(hashes, order, labeled, least):
    slow = []
    for image_id in order:
        others = [hashes[other] for other in (*labeled, *slow) if other in hashes]
        if image_id not in hashes or all((hashes[image_id] ^ other).bit_count() >= least for other in others):
            slow.append(image_id)
    assert walked(HashDistance(least, hashes, labeled), order) == slow


@given(st.integers(0, 99), st.sets(st.integers(0, 9)), st.floats(0.01, 1.5))
def test_embeddings_are_at_least_so_far_from_all_that_was_labeled_or_taken(seed, labeled, least):
    vectors = np.random.default_rng(seed).normal(size=(10, 2))
    vectors[3] = 0
    slow = []
    for image_id in range(10):
        others = [vectors[other] for other in (*labeled, *slow)]
        if all(1 - cosine(vectors[image_id], other) >= least for other in others):
            slow.append(image_id)
    embeddings = dict(enumerate(unit_vectors(vectors)))
    assert walked(EmbeddingDistance(least, embeddings, labeled), range(10)) == slow


def cosine(a, b):
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / lengths if lengths else 0.0


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 4))
def test_a_group_gives_at_most_so_many_images(groups, most):
    of_image = dict(enumerate(groups))
    taken = walked(GroupLimit(most, of_image), range(len(groups) + 1))
    assert taken == [i for i in range(len(groups) + 1) if i == len(groups) or groups[:i].count(groups[i]) < most]


def test_the_config_says_which_rules_there_are():
    def names(**keys):
        loop = LoopConfig.model_validate({"seed_set": 1, "query_size": 1, "rounds": 1, **keys})
        made = rules_of(loop, (), {1: 5}, {1: "a"}, lambda image_ids: np.ones((len(image_ids), 2)))([1])
        return [type(rule).__name__ for rule in made]

    assert names() == []
    assert names(min_distance=9) == ["HashDistance"]
    assert names(min_distance="0.1 cosine", per_group=2) == ["EmbeddingDistance", "GroupLimit"]


def test_what_was_passed_over_is_told_with_its_boxes():
    passed = [
        PassedOver(1, "near_duplicate", 3.0),
        PassedOver(2, "near_duplicate", 4.0),
        PassedOver(3, "near_duplicate", 9.0, bought=True),
        PassedOver(4, "full_group", 2.0),
    ]
    assert passed_over_lines(passed) == [
        "2 near duplicates of labeled images were passed over (7 boxes)",
        "1 near duplicates of labeled images were bought all the same, since the quota could not be met without them",
        "1 images of groups that are full were passed over (2 boxes)",
    ]
    assert passed_over_lines([]) == []


VIDEO = {
    "data.digit_scenes.video": 6,
    "data.digit_scenes.pool": 60,
    "data.groups": {"folder": True},
    "loop.seed_set": 5,
    "loop.query_size": 5,
}


def purchases(folder):
    with read_ledger(folder) as ledger:
        charges = ledger.charges()
        return [[c.image_id for c in charges if c.round == r] for r in range(3)], [
            r.diagnostics for r in ledger.rounds()
        ]


def test_no_purchase_of_a_video_holds_near_duplicates_or_more_than_some_of_a_clip(tmp_path):
    config = parse_config(small_tree(**VIDEO, **{"loop.min_distance": "10 bits", "loop.per_group": 2}))
    run_experiment(config, tmp_path / "run", TABLE)
    bought, diagnostics = purchases(tmp_path / "run")
    pool = load_splits(config.data).train
    hashes = {i: fingerprint(pool.images, i).perceptual for i in pool.dataset.images}
    paid = [image_id for images in bought for image_id in images]
    distances = [(hashes[a] ^ hashes[b]).bit_count() for row, a in enumerate(paid) for b in paid[:row]]
    assert len(paid) == 15
    assert min(distances) >= 10
    for images in bought:
        groups = [pool.dataset.groups[image_id] for image_id in images]
        assert max(map(groups.count, groups)) <= 2
    assert len({pool.dataset.groups[image_id] for image_id in bought[0]}) == 5, "the seed set is drawn over clips"
    assert sum(d.get("near_duplicate_images_passed_over", 0) for d in diagnostics) > 0
    assert all(d.get("near_duplicate_images_bought", 0) == 0 for d in diagnostics)
    counts = near_duplicates(tmp_path / "run")
    assert (counts.paid_images, counts.paid_boxes) == (0, 0)
    assert counts.saved_images > 0
    page = write_report(compare_runs([tmp_path / "run"]), tmp_path / "r.html", "title")[0].read_text()
    assert "Images that occur twice" in page


def test_a_quota_that_cannot_be_met_otherwise_buys_near_duplicates_and_says_so(tmp_path, capsys):
    from alloop.progress import Progress

    changes = {**VIDEO, "data.digit_scenes.pool": 12, "loop.min_distance": "30 bits"}
    run_experiment(parse_config(small_tree(**changes)), tmp_path / "run", TABLE, progress=Progress())
    bought, diagnostics = purchases(tmp_path / "run")
    assert [len(images) for images in bought] == [5, 5, 2], "the pool is bought to its end"
    assert diagnostics[0]["near_duplicate_images_bought"] > 0
    assert "near duplicates of labeled images were bought all the same" in capsys.readouterr().err


def test_a_distance_of_embeddings_is_kept_too(tmp_path):
    config = parse_config(small_tree(**VIDEO, **{"loop.min_distance": "0.001 cosine"}))
    run_experiment(config, tmp_path / "run", TABLE)
    assert [len(images) for images in purchases(tmp_path / "run")[0]] == [5, 5, 5]


def seed_set(count, **changes):
    """The first images of a random seed set of clips, and the experiment."""
    tree = small_tree(**{"data.digit_scenes.video": 6, "data.digit_scenes.pool": 60, **changes})
    experiment = prepare(parse_config(tree), TABLE)
    pool = experiment.splits.train
    hashes = {i: fingerprint(pool.images, i).perceptual for i in pool.dataset.images}
    return list(islice(random_seed_set(experiment, hashes), count)), hashes, pool.dataset.groups


@pytest.mark.parametrize("random_seed", range(4))
def test_a_seed_set_takes_one_image_of_each_group_before_a_second_one(random_seed):
    images, _, groups = seed_set(60, random_seed=random_seed, **{"data.groups": {"folder": True}})
    for turn in range(6):
        assert len({groups[image_id] for image_id in images[10 * turn : 10 * turn + 10]}) == 10
    assert len(set(images)) == 60
    other, _, _ = seed_set(60, random_seed=random_seed + 1, **{"data.groups": {"folder": True}})
    assert [groups[image_id] for image_id in images[:10]] != [groups[image_id] for image_id in other[:10]]


def test_a_seed_set_holds_no_near_duplicates_and_takes_them_last():
    images, hashes, _ = seed_set(60, **{"loop.min_distance": "10 bits"})
    near = [
        any((hashes[image_id] ^ hashes[other]).bit_count() < 10 for other in images[:row])
        for row, image_id in enumerate(images)
    ]
    assert near == sorted(near)
    assert 10 <= near.index(True) < 60
    assert set(seed_set(60)[0]) == set(images) == set(hashes)
    assert seed_set(60)[0] != images


def test_people_are_not_asked_for_near_duplicates(tmp_path):
    files, desk = tmp_path / "files", tmp_path / "people"
    export_digit_scenes(files, ["pool=60", "video=6", "reference=4", "test=8", "max_digits=3"])
    tree = json.loads((files / "instances_pool.json").read_bytes())
    (files / "unlabeled.json").write_text(json.dumps(tree | {"annotations": []}))
    loop = {"loop.min_distance": "10 bits", "loop.seed_set": 5, "loop.query_size": 5}
    config, people = parse_config(tree_of(files, desk, **loop)), Annotator(files, desk)
    for round_ in range(3):
        with pytest.raises(WaitingError):
            run_experiment(config, tmp_path / "run", TABLE)
        people.answer(round_)
    run_experiment(config, tmp_path / "run", TABLE)
    counts = near_duplicates(tmp_path / "run", bits=9)
    assert [len(images) for images in purchases(tmp_path / "run")[0]] == [5, 5, 5]
    assert (counts.paid_images, counts.saved_images > 0) == (0, True)


def test_rules_that_cannot_hold_are_refused():
    with pytest.raises(ConfigError, match=r"loop\.per_group: nobody knows the groups; say with data\.groups"):
        parse_config(small_tree(**{"loop.per_group": 2}))
