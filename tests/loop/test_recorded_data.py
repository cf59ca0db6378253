"""A run goes on with the data that it began with: they are compared by content, wherever they lie."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from PIL import Image, ImageOps
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.config import load_config, parse_config
from alloop.detectors.torchvision.backbones import SHIPPED
from alloop.errors import ConfigError, DamagedFileError
from alloop.ledger.split_images import recorded_images
from alloop.ledger.store import open_ledger, read_ledger
from alloop.loop import engine
from alloop.loop.beginning import as_measured_before
from alloop.loop.engine import run_experiment
from alloop.loop.recorded_data import sha256_of_path
from strategies import TABLE
from strategies.entropy import Entropy
from tests.support import small_tree
from tests.support.projects import images_of, write_project


class Stopped(BaseException):
    """Stands for a killed process."""


def run(config, out, *overrides, **options):
    return run_experiment(load_config(config, overrides), out, TABLE, **options)


def stopped_after_round_0(config, out, monkeypatch, *overrides, **options):
    """Run a config until its first round is booked."""

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_report", stop)
        with pytest.raises(Stopped):
            run(config, out, *overrides, **options)


def invert(path):
    ImageOps.invert(Image.open(path).convert("RGB")).save(path)


def remove(path):
    path.unlink()


def replace_by_another(path):
    shutil.copy(max(path.parent.glob("*.png")), path)


CHANGES = [invert, remove, replace_by_another]


def command(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("split", ["test", "reference"])
def test_a_changed_image_of_any_split_is_refused_on_resume(tmp_path, monkeypatch, split, change):
    """Random selection never looks at the reference images, and yet they are compared."""
    config, out = write_project(tmp_path, strategy={"name": "random"}), tmp_path / "run"
    stopped_after_round_0(config, out, monkeypatch)
    path = images_of(tmp_path, split)[0]
    change(path)
    with pytest.raises(DamagedFileError, match=rf"{path.name}: image {path.stem}"):
        run(config, out)
    with read_ledger(out) as ledger:
        assert len(ledger.rounds()) == 1
        assert ledger.files(1) == [], "it is refused before the next round is trained"


@pytest.mark.parametrize("change", CHANGES)
def test_a_finished_run_is_no_excuse(tmp_path, change):
    config, out = write_project(tmp_path), tmp_path / "run"
    run(config, out)
    path = images_of(tmp_path, "test")[1]
    change(path)
    with pytest.raises(DamagedFileError, match=f"image {path.stem}"):
        run(config, out)
    output = command("verify", out, code=76)
    assert "test" in output
    assert "1 findings" in output


def test_pixels_in_memory_are_no_excuse(tmp_path, monkeypatch):
    """The cache holds the test images after round 0; round 1 is refused all the same."""
    config, out = write_project(tmp_path), tmp_path / "run"
    monkeypatch.setattr(engine, "_report", lambda *_: invert(images_of(tmp_path, "test")[0]))
    with pytest.raises(DamagedFileError, match="changed after it was imported"):
        run(config, out)
    with read_ledger(out) as ledger:
        assert len(ledger.rounds()) == 1


def test_a_finished_run_whose_data_are_gone_says_that_nothing_was_checked(tmp_path):
    config, out = write_project(tmp_path), tmp_path / "run"
    rounds = run(config, out)
    shutil.rmtree(tmp_path / "data")
    assert run(config, out) == rounds
    assert "not checked" in command("run", config, "--out", out)
    output = command("verify", out)
    assert "the images of the test set were not checked" in output
    assert "images agree" not in output


def test_verify_counts_the_images_of_all_splits(tmp_path):
    config, out = write_project(tmp_path), tmp_path / "run"
    run(config, out)
    assert "19 image files agree" in command("verify", out)


def test_a_run_of_an_older_version_goes_on_without_hashes(tmp_path, monkeypatch):
    config, out = write_project(tmp_path), tmp_path / "run"
    stopped_after_round_0(config, out, monkeypatch)
    with open_ledger(out) as ledger:
        ledger.database.write("DROP TABLE split_image")
        ledger.database.write("DELETE FROM fact WHERE name IN ('contents', 'folder', 'warnings')")
        assert list(recorded_images(ledger)) == ["train"]
    assert "recorded no hashes" in command("verify", out)
    assert len(run(config, out)) == 2


def test_a_run_of_an_older_version_goes_on_counting_100_detections():
    """Its config has no block `evaluation`; one curve is measured in one way."""
    config = parse_config(small_tree())
    tree = yaml.safe_load(config.to_yaml())
    assert as_measured_before(yaml.safe_dump(tree), config) == config
    del tree["evaluation"]
    assert as_measured_before(yaml.safe_dump(tree), config).evaluation.max_detections == 100
    asked = parse_config(small_tree(**{"evaluation.max_detections": 5}))
    assert as_measured_before(yaml.safe_dump(tree), asked) == asked


def test_a_run_of_an_older_version_goes_on_decoding_whole_images():
    """Its config has no key `training.decoding`; a run sees an image in one way."""
    config = parse_config(small_tree())
    tree = yaml.safe_load(config.to_yaml())
    del tree["training"]["decoding"]
    resumed = as_measured_before(yaml.safe_dump(tree), config)
    assert resumed == config.model_copy(update={"training": resumed.training})
    assert resumed.training == config.training.model_copy(update={"decoding": "full"})


def test_shared_models_are_not_shared_between_runs_whose_test_images_differ(tmp_path):
    config, shared = write_project(tmp_path), tmp_path / "shared"
    run(config, tmp_path / "a", "loop.rounds=1", shared=shared)
    assert len(list(shared.glob("*.json"))) == 1
    run(config, tmp_path / "b", "loop.rounds=1", shared=shared)
    assert len(list(shared.glob("*.json"))) == 1
    invert(images_of(tmp_path, "test")[0])
    run(config, tmp_path / "c", "loop.rounds=1", shared=shared)
    assert len(list(shared.glob("*.json"))) == 2


# moved folders


def test_a_moved_project_goes_on_and_all_commands_read_it(tmp_path, monkeypatch):
    """Config, data, seed set, weights and run move together; the copy gives what an unmoved run gives."""
    folder = tmp_path / "one"
    config = write_project(folder, **{"detector.weights": "w.safetensors", "loop.seed_images": "seed.txt"})
    shutil.copy(SHIPPED, folder / "w.safetensors")
    ids = [path.stem for path in images_of(folder, "pool")]
    (folder / "seed.txt").write_text("\n".join(ids[2:7]))
    straight = run(config, tmp_path / "straight")
    stopped_after_round_0(config, folder / "run", monkeypatch)
    moved = tmp_path / "elsewhere" / "two"
    moved.parent.mkdir()
    folder.rename(moved)
    rounds = run(moved / "config.yaml", moved / "run")
    assert [r.metrics for r in rounds] == [r.metrics for r in straight]
    assert "19 image files agree" in command("verify", moved / "run")
    command("report", moved / "run")
    page = (moved / "run" / "report.html").read_text()
    assert "could not be read" not in page
    assert "data:image/jpeg" in page
    run(moved / "config.yaml", moved / "random", "strategy.name=random")
    command("compare", moved / "run", moved / "random")
    invert(images_of(moved, "test")[0])
    with pytest.raises(DamagedFileError, match="changed after it was imported"):
        run(moved / "config.yaml", moved / "run")


def test_a_path_may_change_but_not_what_lies_behind_it(tmp_path, monkeypatch):
    config, out = write_project(tmp_path), tmp_path / "run"
    stopped_after_round_0(config, out, monkeypatch)
    copy = Path(shutil.copytree(tmp_path / "data", tmp_path / "copy"))
    moved = [
        f"data.{split}.{key}={copy / name}"
        for split, file in (("train", "pool"), ("reference", "reference"), ("test", "test"))
        for key, name in (("annotations", f"instances_{file}.json"), ("images", "images"))
    ]
    for split in ("pool", "reference", "test"):  # an image of the pool counts as well, though nothing reads it yet
        with read_ledger(out) as ledger:
            path = next(p for p in (copy / "images" / split).glob("*.png") if int(p.stem) not in ledger.labeled())
        kept = path.read_bytes()
        invert(path)
        with pytest.raises(DamagedFileError, match=path.stem):
            run(config, out, *moved)
        path.write_bytes(kept)
    annotations = copy / "instances_test.json"
    kept = annotations.read_text()
    annotations.write_text((copy / "instances_reference.json").read_text())
    with pytest.raises(ConfigError, match="the data differ"):
        run(config, out, *moved)
    annotations.write_text(kept)
    assert len(run(config, out, *moved)) == 2
    annotations.write_text((copy / "instances_reference.json").read_text())
    with pytest.raises(ConfigError, match="the data differ"):  # of a finished run as well
        run(config, out, *moved)


def test_other_weights_behind_the_same_path_are_refused(tmp_path, monkeypatch):
    config, out = write_project(tmp_path, **{"detector.weights": "w.safetensors"}), tmp_path / "run"
    weights = tmp_path / "w.safetensors"
    shutil.copy(SHIPPED, weights)
    stopped_after_round_0(config, out, monkeypatch)
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedFileError, match=r"detector\.weights: .*expected sha256"):
        run(config, out)
    weights.unlink()
    with pytest.raises(DamagedFileError, match="found nothing"):
        run(config, out)
    with pytest.raises(ConfigError, match=r"detector\.weights"):
        run(config, out, "detector.weights=none")
    weights.write_bytes(data)
    assert len(run(config, out)) == 2


def test_a_file_of_a_seed_set_that_names_other_images_is_refused(tmp_path, monkeypatch):
    config, out = write_project(tmp_path, **{"loop.seed_images": "seed.txt"}), tmp_path / "run"
    ids = [path.stem for path in images_of(tmp_path, "pool")]
    (tmp_path / "seed.txt").write_text("\n".join(ids[:5]))
    stopped_after_round_0(config, out, monkeypatch)
    (tmp_path / "seed.txt").write_text("\n".join(ids[1:5]))
    with pytest.raises(ConfigError, match="names other images"):
        run(config, out)
    (tmp_path / "other.txt").write_text("# the same three first\n" + "\n".join(ids[:4]))
    assert len(run(config, out, f"loop.seed_images={tmp_path / 'other.txt'}")) == 2


@dataclass(frozen=True)
class ReadsAFile(Entropy):
    """A strategy with a file of its own."""

    source: ClassVar[str] = "test"
    file: Path = Path("nowhere")


def test_a_file_of_a_strategy_is_compared_by_its_content(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).write_text("the same")
    own = f"{__name__}:{ReadsAFile.__name__}"
    config = write_project(tmp_path, strategy={"name": own, "file": str(tmp_path / "a")})
    out = tmp_path / "run"
    stopped_after_round_0(config, out, monkeypatch)
    (tmp_path / "b").write_text("another")
    with pytest.raises(DamagedFileError, match=r"strategy\.file"):
        run(config, out, f"strategy.file={tmp_path / 'b'}")
    (tmp_path / "b").write_text("the same")
    assert len(run(config, out, f"strategy.file={tmp_path / 'b'}")) == 2


def test_a_folder_is_hashed_with_names_and_contents(tmp_path):
    (tmp_path / "a" / "in").mkdir(parents=True)
    (tmp_path / "a" / "in" / "x").write_text("1")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert sha256_of_path(tmp_path / "a") == sha256_of_path(tmp_path / "b")
    (tmp_path / "b" / "in" / "x").rename(tmp_path / "b" / "in" / "y")
    assert sha256_of_path(tmp_path / "a") != sha256_of_path(tmp_path / "b")


def test_a_moved_study_goes_on_and_shares_its_models(tmp_path):
    folder, moved = tmp_path / "one", tmp_path / "two"
    arguments = ["--strategies", "entropy", "--seeds", "0", "--set", "loop.rounds=1"]
    config = write_project(folder, **{"detector.weights": "w.safetensors"})
    shutil.copy(SHIPPED, folder / "w.safetensors")
    command("study", config, *arguments, "--out", folder / "study")
    shared = sorted(path.name for path in (folder / "study" / "shared").glob("*.json"))
    assert len(shared) == 1
    folder.rename(moved)
    arguments[1] = "entropy,k_center"
    output = command("study", moved / "config.yaml", *arguments, "--out", moved / "study")
    assert "random" in output
    assert sorted(path.name for path in (moved / "study" / "shared").glob("*.json")) == shared
    command("verify", moved / "study")
    command("compare", moved / "study")


def test_a_moved_prune_study_goes_on(tmp_path):
    folder, moved = tmp_path / "one", tmp_path / "two"
    config = write_project(folder, **{"detector.weights": "w.safetensors"})
    shutil.copy(SHIPPED, folder / "w.safetensors")
    arguments = ["--strategies", "csod", "--keep", "0.5", "--seeds", "0"]
    command("prune-study", config, *arguments, "--out", folder / "study")
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    folder.rename(moved)
    command("prune-study", moved / "config.yaml", *arguments, "--out", moved / "study")
    assert sorted(path.relative_to(moved) for path in moved.rglob("*")) == before, "nothing was computed again"
    command("verify", moved / "study")


def test_a_project_that_waits_for_people_may_be_moved_with_its_folder_of_answers(tmp_path):
    folder, moved = tmp_path / "one", tmp_path / "two"
    config = write_project(folder, oracle={"name": "folder", "folder": "people"}, **{"loop.rounds": 1})
    command("run", config, "--out", folder / "run", code=3)
    folder.rename(moved)
    command("run", moved / "config.yaml", "--out", moved / "run", code=3)
    (tasks,) = (moved / "people" / "round_000").glob("tasks*.json")
    tasks.rename(tasks.with_name("answers.json"))
    command("run", moved / "config.yaml", "--out", moved / "run")
    assert "19 image files agree" in command("verify", moved / "run")
    assert not folder.exists()


# warnings


def test_a_pool_that_serves_as_test_set_is_told_recorded_and_shown(tmp_path):
    """By content: the files have other names and other ids."""
    config = write_project(tmp_path)
    target = images_of(tmp_path, "test")[0]
    shutil.copy(images_of(tmp_path, "pool")[3], target)
    output = command("run", config, "--out", tmp_path / "run")
    sentence = "1 of 4 test images are also in the pool: AP is measured on what is trained on"
    assert output.count(sentence) == 1
    assert sentence in command("status", tmp_path / "run")
    command("report", tmp_path / "run")
    assert sentence in (tmp_path / "run" / "report.html").read_text()
    study = ["study", config, "--strategies", "entropy", "--seeds", "0,1", "--out", tmp_path / "study"]
    assert command(*study, "--set", "loop.rounds=1").count(f"warning: {sentence}") == 1
    assert command("status", tmp_path / "study").count(sentence) == 1


def test_gbt_of_a_run_of_an_older_version_waits_half_as_long_again_as_gbr():
    tree = small_tree(**{"training.semi_supervised": {"style": "unbiased_teacher", "warm_up": 0.2}})
    config = parse_config(tree)
    begun = yaml.safe_load(config.to_yaml())
    assert as_measured_before(yaml.safe_dump(begun), config) == config
    del begun["training"]["semi_supervised"]["threshold_warm_up"]
    resumed = as_measured_before(yaml.safe_dump(begun), config)
    assert resumed.training.semi_supervised.threshold_warm_up == pytest.approx(0.3)
