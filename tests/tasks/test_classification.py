"""Classification in the loop of detection: what is read, paid, measured and shown."""

import csv
import json

import numpy as np
import pytest
import yaml

from alloop.class_values import ClassLabel
from alloop.data.annotation_json import annotation_sha256, annotations_from_json, annotations_to_json
from alloop.data.classification.embedded_digits import embedded_digits
from alloop.data.classification.labels import image_id_of
from alloop.data.classification.splits import FORMATS, load_classified_splits
from alloop.errors import ConfigError, DataError
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.progress import Progress
from alloop.query import Need
from alloop.results.runs import open_run
from alloop.strategy import make_strategy
from alloop.studies.config_check import checked_config
from alloop.tasks.classification import Classification
from strategies import TABLE
from tests.data.classification.test_cifar import write_10
from tests.data.classification.test_idx import write as write_idx
from tests.support import small_tree
from tests.support.classification import CLASSES, class_config, class_tree, draw, write_class_folders
from tests.support.commands import call


def recorded(folder):
    with read_ledger(folder) as ledger:
        rounds = [(r.round, r.images, r.boxes, r.metrics, r.per_class) for r in ledger.rounds()]
        return rounds, ledger.charges(), ledger.selections(), ledger.labeled()


@pytest.fixture(scope="module")
def entropy_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "entropy"
    run_experiment(class_config(**{"strategy.name": "entropy"}), out, TABLE)
    return out


def test_one_label_is_charged_for_each_image_and_none_is_invented(entropy_run):
    rounds, charges, selections, labeled = recorded(entropy_run)
    assert [(images, labels) for _, images, labels, *_ in rounds] == [(20, 20), (30, 30)]
    assert len(charges) == 30
    assert {charge.boxes for charge in charges} == {1}
    assert len({charge.image_id for charge in charges}) == 30
    digits = embedded_digits("pool")
    truth = {image_id_of(name): int(label) for name, label in zip(digits.names, digits.labels, strict=True)}
    assert labeled == {image_id: ClassLabel(truth[image_id]) for image_id in labeled}
    assert {predicted for *_, predicted in selections} == {1.0}, "a label is expected of each image"


def test_accuracy_is_recounted_from_the_stored_model(entropy_run):
    import torch
    from safetensors.torch import load_file

    from alloop.detectors.classification.networks import build_tiny

    rounds, *_ = recorded(entropy_run)
    (path,) = (entropy_run / "models").glob("*001*")
    network = build_tiny(10)
    network.load_state_dict(load_file(path))
    test = embedded_digits("test")
    pixels = torch.from_numpy(test.pixels.copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        found = network.eval()(pixels).argmax(dim=1).numpy()
    hits = found == test.labels
    _, _, _, metrics, per_class = rounds[1]
    assert metrics["accuracy"] == pytest.approx(hits.mean())
    assert per_class == {str(k): pytest.approx(hits[test.labels == k].mean()) for k in range(10)}


def test_a_run_that_is_cut_in_rounds_is_the_same_run(entropy_run, tmp_path):
    """The same command twice: the second goes on where the first stopped, and every row is the same."""

    config = class_config(**{"strategy.name": "entropy", "training.checkpoint_seconds": 0.0})
    for after in (20, 60, 130):
        out = tmp_path / f"{after}"
        with pytest.raises(StopError):
            run_experiment(config, out, TABLE, progress=StopAfter(after))
        run_experiment(config, out, TABLE)
        assert recorded(out) == recorded(entropy_run)


class StopError(Exception):
    """Raised in the middle of a run."""


class StopAfter(Progress):
    """Raises at one of the reports."""

    def __init__(self, reports):
        super().__init__(quiet=True)
        self.left = reports

    def step(self, *_args, **_named):
        self.left -= 1
        if not self.left:
            raise StopError


SERVED = ("random", "entropy", "margin", "least_confidence", "k_center", "max_herding", "learning_loss", "influence")


@pytest.mark.parametrize("name", SERVED[2:])
def test_strategies_of_classification_run(name, tmp_path):
    small = {"strategy.images": 8, "strategy.repetitions": 2} if name == "influence" else {}
    run_experiment(class_config(**{"strategy.name": name, **small}), tmp_path / "run", TABLE)
    rounds, charges, *_ = recorded(tmp_path / "run")
    assert len(rounds) == 2
    assert len(charges) == 30


@pytest.mark.parametrize("name", sorted(TABLE.keys() - {*SERVED}))
def test_every_other_strategy_is_refused_with_the_need_that_is_missing(name, tmp_path):
    gives = {Need.PREDICTIONS, Need.EMBEDDINGS, Need.LAST_LAYERS, Need.LOSS_PREDICTIONS, Need.REFERENCE}
    missing = make_strategy(name, {}, TABLE).needs - gives
    assert missing, f"{name} needs nothing that a classifier lacks: it belongs to those that run"
    with pytest.raises(ConfigError, match=rf"'{name}' needs .*{min(missing)}.*which detector 'classifier' does"):
        run_experiment(class_config(**{"strategy.name": name}), tmp_path / "run", TABLE)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The data block of each kind of source, all of three or ten classes."""
    folder = tmp_path_factory.mktemp("sources")
    pool, test = write_class_folders(folder / "pool"), write_class_folders(folder / "test", 3, 1000)
    for name, images in (("pool.csv", pool), ("test.csv", test)):
        rows = [f"{path.relative_to(images)},{path.parent.name}" for path in sorted(images.rglob("*.png"))]
        (folder / name).write_text("file_name,label\n" + "\n".join(rows) + "\n")
    write_10(folder / "cifar", "python")
    (folder / "idx").mkdir()
    write_idx(folder / "idx", "train", count=12)
    write_idx(folder / "idx", "t10k", count=4)  # with classes that its training part lacks
    return {
        "class_folders": {"train": {"annotations": pool}, "test": {"annotations": test}},
        "class_csv": {
            "train": {"annotations": folder / "pool.csv", "images": pool},
            "test": {"annotations": folder / "test.csv", "images": test},
        },
        "cifar": {"train": {"annotations": folder / "cifar"}, "test": {"annotations": folder / "cifar"}},
        "idx": {
            "classes": [str(k) for k in range(10)],
            "train": {"annotations": folder / "idx"},
            "test": {"annotations": folder / "idx"},
        },
    }


def test_there_is_a_source_for_each_format(sources):
    assert sources.keys() == FORMATS.keys()


def data_of(sources, name):
    blocks = {key: block for key, block in sources[name].items() if key != "classes"}
    more = {"classes": sources[name]["classes"]} if "classes" in sources[name] else {}
    named = {split: {k: str(v) for k, v in block.items()} | {"format": name} for split, block in blocks.items()}
    return named | more


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_source_serves_a_run_and_its_report(name, sources, tmp_path):
    tree = class_tree(**{"data": data_of(sources, name), "loop.seed_set": 6, "loop.query_size": 3})
    tree["training"]["iterations"] = 2
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    output = call("run", tmp_path / "c.yaml", "--out", tmp_path / "run", "--quiet").output
    assert "accuracy" in output
    assert "labels" in output
    assert "boxes" not in output
    call("verify", tmp_path / "run")
    call("report", tmp_path / "run")
    text = (tmp_path / "run" / "report.html").read_text()
    assert "could not be read" not in text
    assert text.count("data:image/") >= 3, "the chosen images are shown"
    assert call("run", tmp_path / "c.yaml", "--out", tmp_path / "run").output.count("nothing to do") == 1


def test_an_image_that_changed_is_named(sources, tmp_path):
    pool = write_class_folders(tmp_path / "pool")
    data = data_of({"class_folders": {**sources["class_folders"], "train": {"annotations": pool}}}, "class_folders")
    config = class_config(**{"data": data, "loop.seed_set": 6, "loop.query_size": 3, "training.iterations": 1})
    run_experiment(config, tmp_path / "run", TABLE)
    draw(pool, "red/0.png", 0, 77)
    assert "red/0.png" in call("verify", tmp_path / "run", code=76).output


def test_splits_have_the_classes_of_the_pool(sources, tmp_path):
    from alloop.config.blocks import DataConfig

    def load(**blocks):
        tree = {name: {"annotations": str(path), "format": "class_folders"} for name, path in blocks.items()}
        return load_classified_splits(DataConfig.model_validate(tree))

    pool = sources["class_folders"]["train"]["annotations"]
    few = write_class_folders(tmp_path / "few", 1)
    splits = load(train=pool, test=few)
    assert splits.shared
    assert splits.train.dataset.class_names == splits.test.dataset.class_names == tuple(sorted(CLASSES))
    assert len(splits.train.dataset.images) == 18
    assert splits.train.dataset.class_counts() == [6, 6, 6]
    draw(few, "violet/0.png", 1, 5)
    with pytest.raises(DataError, match="violet"):
        load(train=pool, test=few)
    draw(pool.parent / "loose", "red/0.png", 0, 3)
    draw(pool.parent / "loose", "nobody.png", 0, 4)
    loose = load(train=pool.parent / "loose", test=pool.parent / "loose")
    assert len(loose.train.dataset.images) == 1, "what nobody labeled is left out of a simulation"
    block = {"annotations": str(pool.parent / "loose"), "format": "class_folders"}
    people = load_classified_splits(DataConfig.model_validate({"train": block, "test": block}), for_people=True)
    assert len(people.train.dataset.images) == 2
    assert len(people.train.dataset.unlabeled) == 1


def test_the_fingerprint_is_of_names_sizes_labels_and_classes(tmp_path):
    from alloop.config.blocks import DataConfig

    def fingerprint(folder):
        block = {"annotations": str(folder), "format": "class_folders"}
        return load_classified_splits(DataConfig.model_validate({"train": block, "test": block})).fingerprint()

    first = fingerprint(write_class_folders(tmp_path / "a"))
    assert fingerprint(write_class_folders(tmp_path / "b")) == first, "it does not depend on the folder"
    changed = write_class_folders(tmp_path / "c")
    (changed / "red" / "0.png").rename(changed / "blue" / "9.png")
    assert fingerprint(changed) != first
    more = write_class_folders(tmp_path / "d")
    draw(more, "red/7.png", 0, 1)
    assert fingerprint(more) != first
    larger = write_class_folders(tmp_path / "e")
    draw(larger, "red/0.png", 0, 0, size=(10, 8))
    assert fingerprint(larger) != first
    renamed = write_class_folders(tmp_path / "f")
    (renamed / "red").rename(renamed / "rot")
    assert fingerprint(renamed) != first


def test_a_class_is_stored_as_one_label_and_nothing_else():
    label = ClassLabel(7)
    assert json.loads(annotations_to_json(label)) == {"labels": [7]}
    assert annotations_from_json(annotations_to_json(label)) == label
    assert annotation_sha256(label) != annotation_sha256(ClassLabel(8))
    for wrong in ('{"labels": []}', '{"labels": [1, 2]}', '{"labels": [1.5]}', '{"labels": ["1"]}', "{}"):
        with pytest.raises((ValueError, KeyError, TypeError)):
            annotations_from_json(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training.semi_supervised": {}, "training.ema": 0.9},
            r"training\.semi_supervised: task classification does not serve it",
        ),
        ({"training.short_sides": [8, 16]}, "training.short_sides: task classification"),
        ({"evaluation.keep_detections": True}, "evaluation.keep_detections: task classification"),
        ({"oracle.name": "folder", "oracle.folder": "x"}, "oracle: task classification does not serve it"),
        ({"data": {"digit_scenes": {}}}, "data.digit_scenes: task classification"),
        ({"task": "detection"}, "data.digits: these images have one class each"),
        ({"task": "detektion"}, "task"),
        ({"data": {"digits": True, "digit_scenes": {}}}, "give either train"),
        ({"data": {"digits": True, "classes": ["a"]}}, "digits brings its own"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        class_config(**changes)


def test_a_network_of_the_other_task_is_refused(tmp_path):
    other = class_config(detector={"name": "fcos", "backbone": "tiny", "weights": "digits"})
    with pytest.raises(ConfigError, match="'fcos' gives no predictions, which task classification needs"):
        run_experiment(other, tmp_path / "a", TABLE)
    tree = small_tree(**{"detector.name": "classifier"})
    from alloop.config.reading import parse_config

    with pytest.raises(ConfigError, match="'classifier' gives no detections, which task detection needs"):
        run_experiment(parse_config(tree), tmp_path / "b", TABLE)


def test_unknown_formats_and_paths_that_are_not_there_are_config_errors(tmp_path):
    def check(**block):
        config = class_config(data={"train": block, "test": block})
        Classification().refuse_missing(config.data)

    with pytest.raises(ConfigError, match=r"data.train.format: 'class_folder' holds no classes.*did you mean"):
        check(annotations=str(tmp_path), format="class_folder")
    with pytest.raises(ConfigError, match=r"data\.train\.annotations"):
        check(annotations=str(tmp_path / "nothing"), format="class_folders")
    (tmp_path / "empty").mkdir()
    empty = {"annotations": str(tmp_path / "empty"), "format": "class_folders"}
    config = class_config(data={"train": empty, "test": empty})
    with pytest.raises(DataError, match="no image"):
        load_classified_splits(config.data)


def test_check_data_says_what_a_study_would_do(tmp_path):
    checked = checked_config(class_config(), TABLE, ["random", "csod"])
    assert checked.splits[0]["labels"] == "1200"
    assert checked.splits[0]["image size"] == "8 x 8"
    assert any("20 images first, then 1 times 10 images: 30 of 1200 images" in line for line in checked.lines)
    assert list(checked.problems) == ["csod"]


def test_results_speak_of_labels_and_accuracy(entropy_run, tmp_path):
    other = tmp_path / "random"
    run_experiment(class_config(), other, TABLE)
    run = open_run(other)
    assert run.unit == "labels"
    assert run.measured[0] == "accuracy"
    table = call("compare", entropy_run, other).output
    assert "accuracy" in table
    assert "boxes" not in table
    assert "equal images" in table
    tree = json.loads(call("compare", entropy_run, other, "--format", "json").output)
    assert tree["metric"] == "accuracy"
    assert tree["runs"][0]["rounds"][1]["boxes"] == 30
    rows = list(csv.DictReader(call("compare", entropy_run, other, "--format", "csv").output.splitlines()))
    assert {"accuracy", "mean_class_accuracy", "top5_accuracy"} <= rows[0].keys()
    refused = call("compare", entropy_run, other, "--metric", "ap", code=2)
    assert "compare by accuracy" in " ".join(refused.output.split())
    status = call("status", other).output
    assert "30 labels" in status
    assert "accuracy" in status


def test_detection_and_classification_are_not_compared(entropy_run, tmp_path):
    tree = small_tree(**{"loop.rounds": 1, "training.iterations": 1, "strategy.name": "random"})
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    call("run", tmp_path / "c.yaml", "--out", tmp_path / "run", "--quiet")
    result = call("compare", entropy_run, tmp_path / "run", code=2)
    assert "cannot be compared" in " ".join(result.output.split())


def test_probabilities_of_the_pool_are_kept_between_the_runs_of_a_study(tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(class_tree()))
    args = ("study", tmp_path / "c.yaml", "--strategies", "random,entropy,margin", "--seeds", "0,1", "--quiet")
    call(*args, "--out", tmp_path / "study")
    runs = [open_run(folder) for folder in sorted((tmp_path / "study").glob("*_seed0"))]
    first = {tuple(run.rounds[0].metrics.items()) for run in runs}
    assert len(first) == 1, "round 0 is trained once for all strategies of a seed"
    assert np.isfinite([run.rounds[-1].metrics["accuracy"] for run in runs]).all()
    assert (tmp_path / "study" / "report.html").exists()


def test_jobs_about_boxes_are_refused_with_that_reason(entropy_run, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(class_tree()))
    prune = call("prune-study", tmp_path / "c.yaml", "--strategies", "random", "--keep", "0.5", "--seeds", "0", code=2)
    ask = call("ask", entropy_run, code=2)
    export = call("export", entropy_run, "--round", "1", "--to", "coco", "--out", tmp_path / "x", code=2)
    for refused, job in (
        (prune, "pruning is about boxes"),
        (ask, "a preview is about boxes"),
        (export, "export writes"),
    ):
        assert job in " ".join(refused.output.split())
    assert not (tmp_path / "x").exists()


def test_a_pool_of_classes_can_grow(sources, tmp_path):
    pool = write_class_folders(tmp_path / "pool")
    data = data_of({"class_folders": {**sources["class_folders"], "train": {"annotations": pool}}}, "class_folders")
    small = {"data": data, "loop.seed_set": 6, "loop.query_size": 3, "training.iterations": 1}
    run_experiment(class_config(**small), tmp_path / "run", TABLE)
    before = recorded(tmp_path / "run")
    draw(pool, "blue/77.png", 2, 9)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(class_tree(**small, **{"loop.rounds": 3})))
    refused = call("run", tmp_path / "c.yaml", "--out", tmp_path / "run", code=2)
    assert "--accept-new-images" in refused.output
    call("run", tmp_path / "c.yaml", "--out", tmp_path / "run", "--accept-new-images", "--quiet")
    assert recorded(tmp_path / "run")[0][:2] == before[0]
    assert "of 19 images" in call("status", tmp_path / "run").output
