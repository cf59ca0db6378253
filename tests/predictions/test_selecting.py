"""Choosing from files equals asking the strategy with the detector itself, whatever the files look like."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

import alloop
from alloop.errors import ConfigError, DataError, StrategyError
from alloop.predictions.selecting import Files, select
from alloop.strategy import make_strategy
from alloop.testing import FakeDetector, make_query
from strategies import TABLE
from tests.support.predictions import (
    files_of,
    name_of,
    results_of,
    write_csv,
    write_pool,
    write_results,
    write_yolo,
)

SIGMAS = (8.0, 16.0, 24.0, 32.0, 40.0, 48.0)
SERVED = ["random", "least_confidence", "margin", "entropy", "k_center", "localization_stability", "csod", "talisman"]


class InsideDetector(FakeDetector):
    """A fake detector whose boxes stay inside the image under noise, so that no file is clipped."""

    def _detections(self, image_id, sigma=0.0):
        found = super()._detections(image_id, sigma)
        return dataclasses.replace(found, boxes=found.boxes + 20)


@pytest.fixture
def query():
    return dataclasses.replace(make_query(round_=0, count=9, random_seed=5), detector=InsideDetector())


@pytest.mark.parametrize("name", SERVED)
def test_files_give_the_choice_of_the_detector_itself(query, tmp_path, name):
    files = files_of(query, tmp_path, sigmas=SIGMAS, regions=True)
    chosen = select(files, name, TABLE, images=9, random_seed=5)
    asked = make_strategy(name, {}, TABLE).select(query)
    assert chosen.image_ids == asked.image_ids
    assert chosen.utilities == pytest.approx(asked.utilities, rel=1e-4)
    assert [image.file_name for image in chosen.images] == [name_of(i) for i in asked.image_ids]


def test_vectors_of_boxes_that_do_not_fit_are_refused(query, tmp_path):
    files = files_of(query, tmp_path, regions=True)
    with pytest.raises(ConfigError, match="--labeled-regions: strategies that use --regions compare with the labeled"):
        select(dataclasses.replace(files, labeled_regions=None), "csod", TABLE, images=1)
    rows = json.loads(files.predictions[0].read_text())
    halves = [[one for one in rows if one["image_id"] % 2 == k] for k in range(2)]
    two = tuple(write_results(tmp_path / f"half{k}.json", half) for k, half in enumerate(halves))
    with pytest.raises(ConfigError, match=r"--regions: .* give --predictions FILE once"):
        select(dataclasses.replace(files, predictions=two), "csod", TABLE, images=1)
    with pytest.raises(StrategyError, match=r"csod needs vectors of predicted and labeled boxes \(--regions FILE.npy"):
        select(dataclasses.replace(files, regions=None), "csod", TABLE, images=1)
    vectors = np.load(files.labeled_regions)
    np.save(files.labeled_regions, vectors[:-1])
    rows = f"expected a row for each of the {len(vectors)} labeled boxes, found {len(vectors) - 1}"
    with pytest.raises(DataError, match=rows):
        select(files, "csod", TABLE, images=1)
    np.save(files.labeled_regions, vectors[:, :-1])
    with pytest.raises(DataError, match="give both the same length"):
        select(files, "csod", TABLE, images=1)


@pytest.mark.parametrize("name", ["entropy", "margin", "least_confidence"])
def test_scores_alone_are_two_outcomes_and_no_posterior_is_made_up(query, tmp_path, name):
    files = files_of(query, tmp_path, posteriors=False)
    chosen = select(files, name, TABLE, images=60, parameters={"aggregation": "sum", "score_threshold": 0.0})
    of_score = {
        "entropy": lambda s: -sum(p * math.log(p) for p in (s, 1 - s) if p > 0),
        "margin": lambda s: 1 - abs(s - (1 - s)),
        "least_confidence": lambda s: 1 - s,
    }[name]
    for image_id, utility in zip(chosen.image_ids, chosen.utilities, strict=True):
        scores = query.detector.detections([image_id])[0].scores.astype(float)
        if len(scores):
            assert utility == pytest.approx(sum(map(of_score, scores)), rel=1e-5)
    assert any("scores alone are known" in note for note in chosen.notes)
    with_posteriors = select(files_of(query, tmp_path), name, TABLE, images=60)
    assert not any("scores alone" in note for note in with_posteriors.notes)


@pytest.mark.parametrize("posteriors", [True, False])
def test_every_format_and_order_and_any_number_of_files_choose_the_same(query, tmp_path, posteriors):
    files = files_of(query, tmp_path, posteriors=posteriors)
    ids = sorted([*query.unlabeled, *query.labeled])
    results = results_of(ids, query.detector.detections(ids), posteriors=posteriors)
    expected = select(files, "entropy", TABLE, boxes=30)
    shuffled = [results[row] for row in np.random.default_rng(0).permutation(len(results))]
    half = [[r for r in results if r["image_id"] % 2 == k] for k in range(2)]
    named = [one | {"image_id": name_of(one["image_id"])} for one in results]
    others = [
        (write_results(tmp_path / "shuffled.json", shuffled),),
        tuple(write_results(tmp_path / f"half{k}.json", half[k]) for k in range(2)),
        (write_results(tmp_path / "named.json", named),),
        (write_csv(tmp_path / "p.csv", results),),
    ]
    others += [] if posteriors else [(write_yolo(tmp_path / "yolo", results),)]
    for paths in others:
        chosen = select(dataclasses.replace(files, predictions=paths), "entropy", TABLE, boxes=30)
        assert chosen.image_ids == expected.image_ids
        assert chosen.utilities == pytest.approx(expected.utilities, rel=1e-5)
        assert chosen.predicted_boxes == expected.predicted_boxes


@pytest.mark.parametrize("boxes", [1, 7, 30, 10_000])
def test_images_are_taken_until_the_boxes_are_predicted(query, tmp_path, boxes):
    """The head of the whole ranking, up to the image that fills the quota; the count is fitted to what is labeled."""
    files = files_of(query, tmp_path)
    chosen = select(files, "entropy", TABLE, boxes=boxes)
    whole = make_strategy("entropy", {}, TABLE).select(dataclasses.replace(query, count=60, random_seed=0))
    scores = np.sort(np.concatenate([d.scores for d in query.detector.detections(query.unlabeled)]))[::-1]
    mean = np.mean([len(truth) for truth in query.labeled.values()])
    threshold = scores[round(mean * 60) - 1]
    counts = [int((query.detector.detections([i])[0].scores >= threshold).sum()) for i in whole.image_ids]
    needed = next((n for n, total in enumerate(itertools.accumulate(counts), start=1) if total >= boxes), 60)
    assert chosen.image_ids == whole.image_ids[:needed]
    assert chosen.predicted_boxes == tuple(counts[:needed])
    assert f"{mean:.2f}" in chosen.notes[-1] + chosen.notes[0]


def test_the_ranking_grows_until_the_boxes_are_predicted(query, tmp_path):
    """Few detections count, so the images that are ranked at first do not hold enough of them."""
    files = files_of(query, tmp_path)
    whole = select(files, "random", TABLE, images=60, random_seed=5, count_above=0.8)
    totals = list(itertools.accumulate(whole.predicted_boxes))
    needed = next(number for number, total in enumerate(totals, start=1) if total >= 6)
    assert needed > 1.5 * 6 / np.mean([len(truth) for truth in query.labeled.values()]) + 8, (
        "more than are ranked first"
    )
    chosen = select(files, "random", TABLE, boxes=6, random_seed=5, count_above=0.8)
    assert chosen.image_ids == whole.image_ids[:needed]


def test_where_fewer_boxes_are_predicted_than_labeled_every_detection_counts(query, tmp_path):
    files = files_of(query, tmp_path)
    few = [one for one in json.loads(files.predictions[0].read_text()) if one["image_id"] % 5 == 0]
    chosen = select(
        dataclasses.replace(files, predictions=(write_results(tmp_path / "f.json", few),)), "random", TABLE, images=60
    )
    assert "every detection counts as a box: there are fewer than the" in chosen.notes[0]
    unlabeled = set(map(int, query.unlabeled))
    assert sum(chosen.predicted_boxes) == sum(one["image_id"] in unlabeled for one in few)


def test_without_labels_a_threshold_of_one_half_counts_unless_another_is_given(query, tmp_path):
    files = files_of(query, tmp_path)
    ids = sorted(query.unlabeled)
    unlabeled = dataclasses.replace(files, pool=write_pool(tmp_path / "all.json", ids), embeddings=None)
    kept = [r for r in json.loads(files.predictions[0].read_text()) if r["image_id"] in set(ids)]
    unlabeled = dataclasses.replace(unlabeled, predictions=(write_results(tmp_path / "kept.json", kept),))
    for above, options in ((0.5, {}), (0.3, {"count_above": 0.3})):
        chosen = select(unlabeled, "entropy", TABLE, images=5, **options)
        found = query.detector.detections(chosen.image_ids)
        assert chosen.predicted_boxes == tuple(int((d.scores >= above).sum()) for d in found)


def test_what_is_labeled_may_stand_in_a_file_of_its_own(query, tmp_path):
    """Images are matched by name; one outside of the pool counts as labeled and gets a new id."""
    files = files_of(query, tmp_path)
    pool = write_pool(tmp_path / "bare.json", sorted([*query.unlabeled, *query.labeled]))
    own = {i + 1_000_000: truth for i, truth in query.labeled.items()}
    tree = json.loads(write_pool(tmp_path / "own.json", sorted(own), own).read_text())
    for image in tree["images"]:
        image["file_name"] = name_of(image["id"] - 1_000_000)
    (tmp_path / "own.json").write_text(json.dumps(tree))
    apart = dataclasses.replace(files, pool=pool, labeled=tmp_path / "own.json")
    for name in ("entropy", "k_center"):
        expected = select(files, name, TABLE, boxes=20)
        assert select(apart, name, TABLE, boxes=20).image_ids == expected.image_ids
    tree["images"][0]["file_name"] = "elsewhere.jpg"
    (tmp_path / "own.json").write_text(json.dumps(tree))
    assert select(apart, "entropy", TABLE, images=3)
    with pytest.raises(DataError, match=r"embeddings.npy: has no embedding of image"):
        select(apart, "k_center", TABLE, images=3)
    tree["images"][0]["width"] = 99
    tree["images"][0]["file_name"] = name_of(min(query.labeled))
    (tmp_path / "own.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match="99 x 128 pixels, the pool says 128 x 128"):
        select(apart, "entropy", TABLE, images=3)


def test_a_strategy_that_no_file_serves_says_which_file_would(query, tmp_path):
    files = files_of(query, tmp_path)
    bare = Files(files.pool)
    assert select(bare, "random", TABLE, images=4, random_seed=5).predicted_boxes is None
    for name, words in (
        ("entropy", r"entropy needs predictions of the pool \(--predictions FILE\)"),
        ("k_center", r"k_center needs embeddings of the images \(--embeddings FILE.npy\)"),
        ("localization_stability", r"--predictions FILE\) and predictions .* with noise \(--noisy SIGMA=FILE"),
        ("influence", r"influence needs last_layers, reference, which no file gives"),
    ):
        with pytest.raises(StrategyError, match=words):
            select(bare, name, TABLE, images=4)
    with pytest.raises(StrategyError, match="--boxes: boxes are counted by predictions"):
        select(bare, "random", TABLE, boxes=4)
    noisy = dataclasses.replace(files_of(query, tmp_path, sigmas=[8.0]))
    with pytest.raises(StrategyError, match="sigma 16 are needed, and there are those of 8"):
        select(noisy, "localization_stability", TABLE, images=3)
    assert select(noisy, "localization_stability", TABLE, images=3, parameters={"sigmas": [8]})
    with pytest.raises(StrategyError, match="annotations: true needs hidden labels"):
        select(files, "csod", TABLE, images=3, parameters={"annotations": "true"})


def test_the_amount_is_one_of_images_and_boxes_and_may_exceed_the_pool(query, tmp_path):
    files = files_of(query, tmp_path)
    for amounts in ({}, {"images": 3, "boxes": 3}):
        with pytest.raises(ConfigError, match="give one of"):
            select(files, "entropy", TABLE, **amounts)
    chosen = select(files, "entropy", TABLE, images=500)
    assert len(chosen.images) == 60
    boxes = int(sum(chosen.predicted_boxes))
    end = f"were asked for, and the pool has 60 images with {boxes} predicted boxes to choose from; all are chosen"
    assert chosen.notes[-1] == f"500 images {end}"
    assert select(files, "entropy", TABLE, boxes=boxes + 1).notes[-1] == f"{boxes + 1} boxes {end}"
    assert not any("all are chosen" in note for note in select(files, "entropy", TABLE, boxes=boxes).notes)


def test_the_answer_does_not_depend_on_the_run(query, tmp_path):
    files = files_of(query, tmp_path)
    once, again = (alloop.select(files, "random", TABLE, images=9, random_seed=3).to_csv() for _ in range(2))
    assert once == again
    assert once != select(files, "random", TABLE, images=9, random_seed=4).to_csv()
    assert once.splitlines()[0] == "rank,image_id,file_name,utility,predicted_boxes"
    assert len(once.splitlines()) == 10


def test_a_pool_that_is_labeled_has_nothing_to_choose(query, tmp_path):
    files = files_of(query, tmp_path)
    whole = dataclasses.replace(files, labeled=write_pool(tmp_path / "w.json", query.labeled, query.labeled))
    assert len(select(whole, "entropy", TABLE, images=60).images) == 60
    everything = dict.fromkeys(sorted([*query.unlabeled, *query.labeled]), query.labeled[next(iter(query.labeled))])
    whole = dataclasses.replace(files, labeled=write_pool(tmp_path / "w2.json", everything, everything))
    with pytest.raises(DataError, match="labels every image of the pool"):
        select(whole, "entropy", TABLE, images=1)
