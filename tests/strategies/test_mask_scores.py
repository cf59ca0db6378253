"""Pruning scores of mask pixels by hand, the states of a training, and the prune-then-train study."""

import csv
import dataclasses
import json
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.config import load_config, parse_config
from alloop.errors import AlloopError, ConfigError, StrategyError
from alloop.ledger.audit import audit
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment, trained_on_everything
from alloop.pruning.report import curve_png, to_csv, to_table
from alloop.pruning.study import PruneStudy
from alloop.query import Need
from alloop.testing import FakeDetector, make_query
from alloop.training.schedule import snapshot_steps
from alloop.values import Annotations, ImageId, InstanceScores, MaskPixels
from strategies import TABLE
from strategies.aum import Aum, class_margin, largest_two, pixel_margin
from strategies.ccs import Ccs, budgets, coverage, hardest, strata
from strategies.el2n import El2n, error, squared_logit_error
from strategies.forgetting import Forgetting, events, right, rises
from strategies.mask_entropy import MaskEntropy, entropy
from strategies.mask_pixels import cross_entropy, sigmoid
from strategies.random import Random
from tests.support import small_tree

MASK_RCNN = {"detector.name": "mask_rcnn", "training.iterations": 6}


def pixels(logits, truth, labels=(0,)):
    """Instances of one image; `logits [n, k, m, m]`."""
    return MaskPixels(np.array(logits, dtype=np.float32), np.array(labels), np.array(truth, dtype=np.bool_))


ONE = pixels([[[[2.0, -1.0], [0.0, 3.0]], [[1.0, 1.0], [-4.0, 0.5]]]], [[[1, 0], [1, 0]]])
S = 1 / (1 + np.exp(-np.array([2.0, -1.0, 0.0, 3.0])))
Y = np.array([1, 0, 1, 0])


def test_scores_of_one_instance_by_hand():
    assert entropy(ONE) == pytest.approx(-(S * np.log(S) + (1 - S) * np.log(1 - S)).mean())
    assert cross_entropy(ONE) == pytest.approx(-(Y * np.log(S) + (1 - Y) * np.log(1 - S)).mean())
    assert error(ONE) == pytest.approx(np.abs(S - Y).mean())
    assert squared_logit_error(ONE) == pytest.approx(np.mean([1, 1, 1, 9]))
    assert pixel_margin(ONE) == pytest.approx((np.where(Y, S, 1 - S) - np.where(Y, 1 - S, S)).mean())
    other = 1 / (1 + np.exp(-np.array([1.0, -4.0])))
    assert class_margin(ONE) == pytest.approx(np.mean([S[0] - other[0], S[2] - other[1]]))
    assert largest_two(ONE) == pytest.approx(np.mean([1, 2, 4, 2.5]))
    assert right(ONE).tolist() == [[[True, True], [False, False]]]


def test_extreme_logits_stay_finite():
    wild = pixels([[[[1e4, -1e4], [3e38, -3e38]]]], [[[0, 1], [1, 0]]])
    for score in (entropy, cross_entropy, error, pixel_margin):
        assert np.isfinite(score(wild)).all()
    assert sigmoid(np.array([-1e5, 0, 1e5])).tolist() == [0, 0.5, 1]


def test_margins_between_classes_need_two():
    for score in (class_margin, largest_two):
        with pytest.raises(StrategyError, match="needs two of them"):
            score(pixels([[[[1.0]]]], [[[1]]]))
    assert class_margin(pixels([[[[1.0]], [[2.0]]]], [[[0]]])) == 0  # an empty mask


def test_forgetting_counts_what_was_right_and_is_wrong():
    states = [np.array([[[True, False, True]]]), np.array([[[False, True, True]]]), np.array([[[True, False, True]]])]
    assert events(states) == pytest.approx(2 / 3)
    assert events([*states, ~states[-1]]) == pytest.approx(4 / 3)
    assert rises([np.array([3.0, 1]), np.array([2.0, 2]), np.array([2.5, 0]), np.array([2.0, 0.5])]).tolist() == [1, 2]


# images


class Scripted(FakeDetector):
    """One pixel an instance; its logit is `course[image][snapshot]`."""

    def __init__(self, course):
        super().__init__()
        self._course, self.snapshots = course, len(next(iter(course.values())))

    def mask_pixels(self, image_ids, annotations, snapshot):
        return [
            pixels(
                [[[[self._course[i][snapshot]]], [[-9.0]]]] * len(annotations[i]),
                [[[1]]] * len(annotations[i]),
                [0] * len(annotations[i]),
            )
            if len(annotations[i])
            else MaskPixels(np.zeros((0, 2, 1, 1)), np.zeros(0), np.zeros((0, 1, 1), dtype=np.bool_))
            for i in image_ids
        ]


def scripted(course, boxes, count=1):
    """A question about images 1, 2, 3, ... with so many instances each."""
    truth = {
        ImageId(i): Annotations(boxes=[[0, 0, 9, 9]] * n, labels=[0] * n, crowd=[False] * n, trainable=[True] * n)
        for i, n in boxes.items()
    }
    asked = make_query(unlabeled=1, labeled=1, count=1)
    return dataclasses.replace(asked, unlabeled=tuple(truth), truth=truth, detector=Scripted(course), count=count)


def test_instances_are_summed_and_the_states_are_the_right_ones():
    course = {1: [4.0, 0.0, 4.0, 1.0], 2: [-3.0, -3.0, 3.0, 3.0], 3: [1.0, -1.0, 1.0, -1.0], 4: [0, 0, 0, 0]}
    asked = scripted(course, {1: 1, 2: 2, 3: 1, 4: 0}, count=4)

    def found(strategy):
        selection = strategy.select(asked)
        return selection.image_ids, dict(zip(selection.image_ids, selection.utilities, strict=True))

    def s(z):
        return 1 / (1 + np.exp(-z))

    def h(z):
        return -s(z) * np.log(s(z)) - s(-z) * np.log(s(-z))

    order, utility = found(MaskEntropy(annotations="true"))
    assert (utility[1], utility[2], utility[3]) == pytest.approx((h(1), 2 * h(3), h(-1)))
    assert order[-1] == 4
    order, utility = found(El2n(annotations="true"))  # the second of four states
    assert (utility[1], utility[2], utility[3]) == pytest.approx((0.5, 2 * s(3), s(1)))
    assert order == (2, 3, 1, 4)
    _, early = found(El2n(annotations="true", share=0.25))
    assert early[1] == pytest.approx(s(-4))
    order, utility = found(Aum(annotations="true"))
    margins = {i: np.mean([2 * s(z) - 1 for z in course[i]]) for i in course}
    assert (-utility[1], -utility[2], -utility[3]) == pytest.approx((margins[1], 2 * margins[2], margins[3]))
    order, utility = found(Forgetting(annotations="true"))
    assert (utility[1], utility[2], utility[3]) == (1, 0, 2)
    assert order == (3, 1, 2, 4)


def test_released_definitions_are_others():
    asked = make_query(truth=True)
    for strategy in (MaskEntropy, El2n, Aum, Forgetting):
        paper = strategy().instance_scores(asked).scores
        released = strategy(definition="released").instance_scores(asked).scores
        assert not np.allclose(paper, released)


def test_sums_by_image():
    scores = InstanceScores(np.array([3, 3, 8]), np.array([0, 1, 0]), np.array([0, 1, 1]), np.array([1.0, 2, 4]))
    assert scores.summed(np.array([2, 3, 8, 9])).tolist() == [0, 3, 4, 0]
    with pytest.raises(AlloopError, match="finite"):
        InstanceScores(np.array([3]), np.array([0]), np.array([0]), np.array([np.nan]))


# coverage


def test_coverage_by_hand():
    scores = np.array([0.0, 0.1, 0.2, 5.0, 5.1, 9.0, 9.9, 10.0])
    assert hardest(scores, 0.25, 4).tolist() == [0, 1]
    assert hardest(scores, 0.9, 6).tolist() == [0, 1], "so many must be left that enough can be drawn"
    assert strata(np.array([0.0, 1.0, 5.0, 10.0]), 10).tolist() == [0, 0, 4, 9]
    assert strata(np.array([-10.0, -6.0, -1e-9]), 2).tolist() == [0, 0, 1]
    assert strata(np.array([3.0, 3.0]), 50).max() < 50
    assert strata(np.zeros(4), 50).tolist() == [0] * 4
    assert budgets(np.array([1, 10, 3, 0]), 8).tolist() == [1, 4, 3, 0]
    assert budgets(np.array([5, 5]), 4).tolist() == [2, 2]
    assert budgets(np.array([2, 3]), 5).tolist() == [2, 3]
    drawn = coverage(scores, 3, 0.25, 3, np.random.default_rng(0))
    assert len(set(drawn)) == 3
    assert sorted(np.searchsorted([1, 6], scores[drawn])) == [0, 1, 2] or set(drawn) <= set(range(2, 8))


@pytest.mark.parametrize("k", [1, 7, 50, 95, 100])
def test_coverage_draws_exactly_what_is_asked_and_cuts_the_hardest(k):
    scores = np.random.default_rng(0).normal(size=100) - 20  # negative scores keep their largest, too
    drawn = coverage(scores, k, 0.1, 50, np.random.default_rng(1))
    assert len(set(drawn.tolist())) == k
    if k <= 90:
        assert not set(drawn) & set(np.argsort(scores)[:10])


def test_coverage_reaches_over_the_whole_range():
    course = {i: [float(np.log((61 + i) / (61 - i)))] for i in range(1, 61)}  # margins of i / 61
    asked = scripted(course, dict.fromkeys(course, 1), count=12)
    chosen = sorted(Ccs(annotations="true", strata=6).select(asked).image_ids)
    assert chosen[0] > 6, "the hardest tenth is cut"
    assert all(any(low < i <= low + 11 for i in chosen) for low in (6, 17, 28, 39, 49))
    other = dataclasses.replace(asked, random_seed=4)
    assert sorted(Ccs(annotations="true", strata=6).select(other).image_ids) != chosen


# states of a training


@pytest.mark.parametrize(
    ("kept", "wanted", "steps"), [(None, False, ()), (None, True, (5, 10)), (3, False, (3, 7, 10)), (0, True, ())]
)
def test_states_are_kept_at_equal_distances(kept, wanted, steps):
    config = parse_config(small_tree(**{"training.iterations": 10, "training.snapshots": kept})).training
    assert snapshot_steps(config, 20, wanted=wanted) == steps


def test_one_state_an_epoch_by_default():
    config = parse_config(small_tree(**{"training.iterations": None, "training.epochs": 4})).training
    assert snapshot_steps(config, 20, wanted=True) == (5, 10, 15, 20)


def fitted(folder, **changes):
    tree = small_tree(**MASK_RCNN, **{"strategy.name": "aum", "data.digit_scenes.pool": 10}, **changes)
    return parse_config(tree), trained_on_everything(parse_config(tree), folder, TABLE)


def test_states_are_those_the_training_went_through(tmp_path):
    config, detector = fitted(tmp_path / "a", **{"training.snapshots": 3})
    assert detector.snapshots == 3
    assert Need.SNAPSHOTS in detector.gives
    with read_ledger(tmp_path / "a") as ledger:
        assert [path for path, _, _ in ledger.files(0)] == [
            "models/round_000.safetensors",
            "snapshots/round_000_step_00000002.safetensors",
            "snapshots/round_000_step_00000004.safetensors",
        ]
        assert audit(ledger) == []
        truth = ledger.labeled()
    ids = sorted(truth)
    said = [[p.label_logits for p in detector.mask_pixels(ids, truth, k)] for k in range(3)]
    for earlier, later in pairwise(said):
        assert any(not np.array_equal(a, b) for a, b in zip(earlier, later, strict=True))
    again = [p.label_logits for p in detector.mask_pixels(ids, truth, 0)]
    assert all(np.array_equal(a, b) for a, b in zip(said[0], again, strict=True))
    run_experiment(load_config_of(config), tmp_path / "a", TABLE)  # finished: nothing is trained again


def load_config_of(config):
    from alloop.config.reading import with_all_labels

    return with_all_labels(config, 10)


def test_keeping_states_does_not_change_the_training(tmp_path):
    for name, snapshots in (("with", 3), ("without", 0)):
        tree = small_tree(**MASK_RCNN, **{"loop.rounds": 1, "training.snapshots": snapshots})
        run_experiment(parse_config(tree), tmp_path / name, TABLE)
    a, b = ((tmp_path / name / "models/round_000.safetensors").read_bytes() for name in ("with", "without"))
    assert a == b


def test_masks_are_seen_inside_their_boxes(tmp_path):
    _, detector = fitted(tmp_path / "a")
    with read_ledger(tmp_path / "a") as ledger:
        truth = ledger.labeled()
    for image_id, seen in zip(truth, detector.mask_pixels(list(truth), truth, 0), strict=True):
        assert seen.logits.shape[:2] == (int(truth[image_id].trainable.sum()), 10)
        assert seen.truth.shape == seen.label_logits.shape
        assert seen.truth.any(axis=(1, 2)).all(), "the box of a digit holds its pixels"
        assert not seen.truth.all(axis=(1, 2)).any(), "and pixels beside it"


def test_strategies_of_masks_run_in_the_loop(tmp_path):
    for name in ("tfdp", "mask_entropy", "aum", "ccs"):
        tree = small_tree(
            **MASK_RCNN,
            **{
                "loop.rounds": 2,
                "strategy.name": name,
                "strategy.score_threshold": 0.01,
                "detector.score_threshold": 0.01,
            },
        )
        rounds = run_experiment(parse_config(tree), tmp_path / name, TABLE)
        assert [record.images for record in rounds] == [6, 10]


@dataclasses.dataclass(frozen=True)
class Spy:
    """Tells whose hidden labels it is shown."""

    annotations: str = "predicted"
    seen: ClassVar[list] = []
    needs = frozenset()
    source = "a test"

    def select(self, query):
        self.seen.append((self.annotations, set(query.truth) >= set(query.unlabeled), len(query.truth)))
        return Random().select(query)


def test_hidden_labels_are_shown_to_nobody_who_does_not_say_so(tmp_path):
    for annotations in ("predicted", "true"):
        tree = small_tree(**{"loop.rounds": 2, "strategy": {"name": "spy", "annotations": annotations}})
        run_experiment(parse_config(tree), tmp_path / annotations, {"spy": f"{__name__}:Spy"})
    assert Spy.seen == [("predicted", False, 0), ("true", True, 24)]


def test_a_study_that_looks_at_labels_is_marked(tmp_path):
    for annotations in ("true", "predicted"):
        tree = small_tree(**MASK_RCNN, **{"loop.rounds": 2, "strategy": {"name": "tfdp", "annotations": annotations}})
        run_experiment(parse_config(tree), tmp_path / annotations, TABLE)
        with read_ledger(tmp_path / annotations) as ledger:
            assert ledger.facts().label_using == (annotations == "true")


def test_masks_asked_of_a_box_detector_are_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match="needs masks"):
        run_experiment(parse_config(small_tree(**{"strategy.name": "tfdp"})), tmp_path / "a", TABLE)
    tree = small_tree(strategy={"name": "csod", "features": "classifier"})
    with pytest.raises(ConfigError, match="needs classifier_features"):
        run_experiment(parse_config(tree), tmp_path / "b", TABLE)


# prune, then train


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    tree = small_tree(**MASK_RCNN, **{"strategy.name": "tfdp", "data.digit_scenes.pool": 12})
    path.write_text(yaml.safe_dump(tree))
    return path


def test_prune_then_train(recipe, tmp_path):
    arguments = [
        "prune-study",
        str(recipe),
        "--strategies",
        "tfdp,forgetting,csod",
        "--keep",
        "0.25,0.5",
        "--seeds",
        "0,1",
    ]
    out = tmp_path / "study"
    done = CliRunner().invoke(app, [*arguments, "--out", str(out), "--quiet"])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((out / "pruned.csv").read_text().splitlines()))
    assert len(rows) == 2 * (1 + 2 * 4)
    assert {row["images"] for row in rows if row["keep"] == "0.25"} == {"3"}
    assert {row["images"] for row in rows if row["strategy"] == "full_label"} == {"12"}
    assert "mask_ap" in rows[0]
    assert "tfdp at 50% against random" in done.stdout
    assert (out / "pruned.png").read_bytes().startswith(b"\x89PNG")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    again = CliRunner().invoke(app, [*arguments, "--out", str(out), "--quiet"])
    assert again.stdout == done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    for subset in (out / "subsets").iterdir():
        head, *ids = subset.read_text().splitlines()
        facts = json.loads(head.removeprefix("# "))
        folder = out / f"{facts['strategy']}_keep{facts['keep']:g}_seed{facts['random_seed']}"
        with read_ledger(folder) as ledger:
            assert sorted(map(str, ledger.labeled())) == sorted(ids)


def test_another_setting_is_never_taken_for_the_first(recipe, tmp_path):
    study = PruneStudy(load_config(recipe), tmp_path / "s", TABLE, ["tfdp"], [0.5], [0])
    other = PruneStudy(load_config(recipe, ["strategy.contour=first"]), tmp_path / "s", TABLE, ["tfdp"], [0.5], [0])
    assert study._subset_path("tfdp", 0.5, 0) != other._subset_path("tfdp", 0.5, 0)
    assert study._subset_path("random", 0.5, 0) == other._subset_path("random", 0.5, 0)
    assert study.results() == []


def test_a_detector_that_cannot_serve_is_refused(recipe, tmp_path):
    with pytest.warns(UserWarning, match="detector fcos ignores"):
        config = load_config(recipe, ["detector.name=fcos", "training.iterations=2"])
    study = PruneStudy(config, tmp_path / "s", TABLE, ["el2n"], [0.5], [0])
    with pytest.raises(ConfigError, match="el2n needs masks"):
        study.run(quiet=True)
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        PruneStudy(config, tmp_path / "s", TABLE, ["tfdp"], [1.5], [0]).run(quiet=True)


def test_tables_of_nothing_measured_do_not_fail(recipe, tmp_path):
    study = PruneStudy(load_config(recipe), tmp_path / "s", TABLE, ["tfdp"], [0.5], [0])
    assert "keep" in to_table(study.results())
    assert to_csv([]).startswith("strategy,")
    assert curve_png([]).startswith(b"\x89PNG")


def test_prune_trains_the_detector_that_a_strategy_needs(tmp_path):
    exported = CliRunner().invoke(
        app, ["export-digits", str(tmp_path / "digits"), "--set", "pool=10", "--set", "test=4", "--set", "reference=2"]
    )
    assert exported.exit_code == 0, exported.output
    files = {path.name: path for path in (tmp_path / "digits").rglob("*.json")}
    pool = next(path for name, path in files.items() if "pool" in name)
    test = next(path for name, path in files.items() if "test" in name)
    tree = small_tree(**{"detector.name": "faster_rcnn", "training.iterations": 2})
    tree["data"] = {
        "train": {"annotations": str(pool), "images": str(tmp_path / "digits" / "images")},
        "test": {"annotations": str(test), "images": str(tmp_path / "digits" / "images")},
    }
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(tree))
    out = tmp_path / "part.json"
    arguments = ["prune", str(pool), "--strategy", "csod", "--images", "4", "--out", str(out), "--config", str(config)]
    done = CliRunner().invoke(app, [*arguments, "--quiet"])
    assert done.exit_code == 0, done.output
    assert len(json.loads(out.read_bytes())["images"]) == 4
    first = out.read_bytes()
    assert CliRunner().invoke(app, [*arguments, "--quiet"]).exit_code == 0
    assert out.read_bytes() == first


# a named seed set


def test_a_file_may_name_the_seed_set(tmp_path):
    pool = sorted(parse_pool())
    named = tmp_path / "seed.txt"
    named.write_text("# chosen by hand\n\n" + "\n".join(map(str, pool[5:9])) + "\n")
    tree = small_tree(**{"loop.seed_set": 3, "loop.seed_images": str(named), "loop.rounds": 1})
    run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    with read_ledger(tmp_path / "run") as ledger:
        assert sorted(ledger.labeled()) == pool[5:8]


def parse_pool():
    from alloop.data.splits import load_splits

    return load_splits(parse_config(small_tree()).data).train.dataset.images


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no image"),
        ("twelve\n", "line 1: expected an image id, found 'twelve'"),
        ("1000000\n1000000\n", "line 2: image 1000000 stands on line 1 already"),
        ("1000000\n77\n", "line 2: image 77 is not in the pool"),
        (None, "cannot be read"),
    ],
)
def test_a_seed_set_that_cannot_be_is_refused(tmp_path, text, words):
    named = tmp_path / "seed.txt"
    if text is not None:
        named.write_text(text)
    tree = small_tree(**{"loop.seed_images": str(named)})
    with pytest.raises(ConfigError, match=words):
        run_experiment(parse_config(tree), tmp_path / "run", TABLE)
