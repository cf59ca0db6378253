"""Splits of records: each image is in one split, no group is in two, and the classes are in balance."""

import random
from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alloop.data import stratification
from alloop.data.formats.coco import read_coco
from alloop.data.groups import group_rule, with_groups
from alloop.data.records import Box, Category, Records
from alloop.data.splitting import parsed_shares, split_records
from alloop.errors import ConfigError, DataError
from alloop.values import ImageId, ImageRecord

LAWS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SHARES = {"train": 0.7, "reference": 0.1, "test": 0.2}


@pytest.fixture
def few_attempts(monkeypatch):
    """The laws hold for every attempt, and a hundred of them take long where all shapes are checked."""
    monkeypatch.setattr(stratification, "MOST_ATTEMPTS", 3)


@st.composite
def record_sets(draw):
    """Return records with boxes, crowds, empty images, unlabeled images and, perhaps, groups."""
    count = draw(st.integers(3, 16))
    ids = draw(st.lists(st.integers(0, 99), min_size=count, max_size=count, unique=True))
    images = [ImageRecord(ImageId(k), f"{row % 4}/{k}.png", 10, 10) for row, k in enumerate(ids)]
    owners = draw(st.lists(st.sampled_from(ids), max_size=30))
    boxes = [Box(n, k, draw(st.sampled_from([3, 8])), (1, 1, 5, 5), n % 2) for n, k in enumerate(owners)]
    free = draw(st.frozensets(st.sampled_from(ids))) - {*owners}
    groups = {i.image_id: i.file_name[0] for i in images} if draw(st.booleans()) else {}
    return Records(images, [Category(8, "b"), Category(3, "a"), Category(5, "never")], boxes, free, groups=groups)


def split(records, shares=SHARES, seed=0):
    """Return the splits, or nothing where there are too few groups for them."""
    labeled = {i.image_id for i in records.images} - records.unlabeled
    if len({records.groups.get(k, k) for k in labeled}) < len(shares):
        with pytest.raises(DataError, match=r"p: has . (groups with )?annotated images for . splits"):
            split_records(records, shares, seed, "p")
        return {}
    return split_records(records, shares, seed, "p")


@LAWS
@given(record_sets(), st.sampled_from([SHARES, {"train": 0.5, "test": 0.5}, {"reference": 0.5, "test": 0.5}]))
def test_each_image_is_in_one_split_with_all_its_boxes_and_no_group_is_in_two(few_attempts, records, shares):
    parts = split(records, shares)
    if not parts:
        return
    places = {image.image_id: name for name, part in parts.items() for image in part.images}
    assert sum(len(part.images) for part in parts.values()) == len(places)
    labeled = {image.image_id for image in records.images} - records.unlabeled
    assert labeled <= places.keys() <= {image.image_id for image in records.images}
    group_of = {k: records.groups.get(k, k) for k in places}
    assert len({(group_of[k], name) for k, name in places.items()}) == len({*group_of.values()})
    for name, part in parts.items():
        ids = {image.image_id for image in part.images}
        assert part.images == [image for image in records.images if image.image_id in ids]
        assert part.annotations == [box for box in records.annotations if box.image_id in ids]
        assert part.categories == records.categories
        assert part.groups == {k: g for k, g in records.groups.items() if k in ids}
        assert part.unlabeled == (records.unlabeled & ids if name == "train" else frozenset())
    left_out = records.unlabeled - places.keys()
    elsewhere = {group_of[k] for k, name in places.items() if name != "train"}
    assert left_out == {k for k in records.unlabeled if "train" not in shares or records.groups.get(k, k) in elsewhere}


@LAWS
@given(record_sets(), st.randoms(use_true_random=False))
def test_the_order_and_the_ids_of_images_and_boxes_do_not_matter(few_attempts, records, chance):
    names = {k: [image.file_name for image in part.images] for k, part in split(records).items()}
    new = dict(zip((i.image_id for i in records.images), chance.sample(range(1000), len(records.images)), strict=True))
    images = [msgspec.structs.replace(image, image_id=new[image.image_id]) for image in records.images]
    boxes = [msgspec.structs.replace(box, image_id=new[box.image_id]) for box in records.annotations]
    chance.shuffle(images)
    chance.shuffle(boxes)
    again = Records(
        images,
        records.categories,
        boxes,
        frozenset(new[k] for k in records.unlabeled),
        groups={new[k]: group for k, group in records.groups.items()},
    )
    shuffled = {k: sorted(image.file_name for image in part.images) for k, part in split(again).items()}
    assert shuffled == {k: sorted(own) for k, own in names.items()}


def test_empty_images_are_shared_out_like_a_class():
    images = [ImageRecord(ImageId(k), f"{k}.png", 10, 10) for k in range(100)]
    boxes = [Box(k, ImageId(k), 3, (1, 1, 5, 5)) for k in range(80)]
    parts = split_records(Records(images, [Category(3, "a")], boxes), SHARES, 0, "p")
    assert [sum(i.image_id >= 80 for i in part.images) for part in parts.values()] == [14, 2, 4]
    assert [len(part.images) for part in parts.values()] == [70, 10, 20]


def test_another_seed_gives_another_division():
    images = [ImageRecord(ImageId(k), f"{k}.png", 10, 10) for k in range(40)]
    records = Records(images, [Category(3, "a")], [])
    tests = {tuple(i.image_id for i in split_records(records, SHARES, seed, "p")["test"].images) for seed in range(5)}
    assert len(tests) == 5


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("test=0.2, train=0.8", {"train": 0.8, "test": 0.2}),
        ("train=.5,reference=.25,test=.25", {"train": 0.5, "reference": 0.25, "test": 0.25}),
        ("train=0.333,reference=0.333,test=0.333", {"train": 1 / 3, "reference": 1 / 3, "test": 1 / 3}),
    ],
)
def test_shares_are_read_in_any_order(text, shares):
    parsed = parsed_shares(text)
    assert list(parsed) == list(shares)
    assert parsed == pytest.approx(shares)
    assert sum(parsed.values()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no split"),
        ("train=0.8,val=0.2", "'val' is no split"),
        ("train=0.8,tset=0.2", r"'tset' is no split \(did you mean 'test'"),
        ("train=0.8,train=0.2", "train stands twice"),
        ("train=0.8", "gives 1 splits with the sum 0.8"),
        ("train=0.8,test=0.1", "gives 2 splits with the sum 0.9"),
        ("train=70,test=30", "train: expected a share above 0 and below 1, found '70'"),
        ("train=1,test=0", "train: expected a share"),
        ("train=nan,test=0.5", "train: expected a share"),
        ("train=-0.5,test=0.5", "train: expected a share"),
        ("train,test", "train: expected a share above 0 and below 1, found ''"),
    ],
)
def test_shares_that_are_none_are_refused(text, message):
    with pytest.raises(ConfigError, match=f"--shares: .*{message}|--shares: {message}"):
        parsed_shares(text)


def box_shares(records, parts):
    """Return the share of the boxes of each class that each split has, class by class."""
    whole = Counter(box.category_id for box in records.annotations)
    own = [Counter(box.category_id for box in part.annotations) for part in parts.values()]
    return np.array([[counts[c] / whole[c] for counts in own] for c in whole])


def at_random(records, seed):
    """Divide groups at random, in the numbers that the shares give."""
    of = {image.image_id: records.groups.get(image.image_id, str(image.image_id)) for image in records.images}
    groups = sorted(set(of.values()))
    random.Random(seed).shuffle(groups)
    ends = np.cumsum([0, *SHARES.values()]) * len(groups)
    place = {g: name for j, name in enumerate(SHARES) for g in groups[round(ends[j]) : round(ends[j + 1])]}
    return {
        name: Records([], [], [box for box in records.annotations if place[of[box.image_id]] == name])
        for name in SHARES
    }


def ours_and_random_ones(path, rule):
    records = read_coco(path)
    records = with_groups(records, rule and group_rule(rule), path.name)
    ours = box_shares(records, split_records(records, SHARES, 0, path.name))
    return ours, [box_shares(records, at_random(records, seed)) for seed in range(20)]


@pytest.mark.parametrize(
    ("path", "rule", "times"),
    [
        ("aquarium/annotations/instances_train.json", None, 10),
        ("bccd/annotations/instances_train.json", None, 5),
        ("annotations_only/taco_official.json.gz", None, 2),
        ("nuclei_dsb2018/annotations/instances_all.json", "pattern:^(.)", 3),
    ],
)
def test_boxes_of_real_sets_are_shared_out_better_than_by_chance(real_data, path, rule, times):
    ours, random_ones = ours_and_random_ones(real_data / path, rule)
    distance = [abs(shares - list(SHARES.values())).mean() for shares in (ours, *random_ones)]
    assert distance[0] * times < np.median(distance[1:])


@pytest.mark.parametrize("rule", [None, "folder"])
def test_fewer_classes_of_a_real_set_are_missing_in_a_split_than_by_chance(real_data, rule):
    ours, random_ones = ours_and_random_ones(real_data / "annotations_only" / "taco_official.json.gz", rule)
    assert 1.3 * (ours == 0).sum() < min((shares == 0).sum() for shares in random_ones)
