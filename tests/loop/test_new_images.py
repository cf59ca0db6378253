"""A pool that gains images while a run goes on."""

import json

import pytest

from alloop.config import load_config
from alloop.errors import ConfigError, WaitingError
from alloop.ledger.amendments import recorded_amendments
from alloop.ledger.audit import verified_lines
from alloop.ledger.image_sizes import recorded_image_sizes
from alloop.ledger.perceptual_hashes import recorded_perceptual_hashes
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.results.status import read_status
from strategies import TABLE
from tests.support.projects import write_project

LATER = 5  # images of the pool that come later


class Project:
    """A project whose pool lacks some images at first."""

    def __init__(self, folder, **changes):
        changes = {"training.iterations": 2, "loop.seed_set": 3, "loop.query_size": 2, "loop.rounds": 3, **changes}
        self.config = write_project(folder, **changes)
        self.pool, self.run_folder = folder / "data" / "instances_pool.json", folder / "run"
        self.whole = json.loads(self.pool.read_text())
        self.late = {image["id"] for image in self.whole["images"][-LATER:]}
        self.write(self.without_late())

    def without_late(self):
        tree = dict(self.whole)
        tree["images"] = [image for image in tree["images"] if image["id"] not in self.late]
        tree["annotations"] = [box for box in tree["annotations"] if box["image_id"] not in self.late]
        return tree

    def write(self, tree):
        self.pool.write_text(json.dumps(tree))

    def run(self, *overrides, **options):
        return run_experiment(load_config(self.config, overrides), self.run_folder, TABLE, **options)

    def read(self):
        with read_ledger(self.run_folder) as ledger:
            lines, findings = verified_lines(ledger)
            assert findings == []
            return {
                "charged": {charge.image_id for charge in ledger.charges()},
                "charges": ledger.charges(),
                "pool": ledger.pool_size(),
                "amendments": [str(amendment) for amendment in recorded_amendments(ledger)],
                "sizes": len(recorded_image_sizes(ledger)),
                "hashes": len(recorded_perceptual_hashes(ledger)),
                "classes": sum(ledger.facts().pool_class_boxes or ()),
                "lines": lines,
            }


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_new_images_are_offered_from_then_on(project):
    project.run("loop.rounds=2")
    before = project.read()
    assert not before["charged"] & project.late
    project.write(project.whole)
    rounds = project.run("loop.rounds=6", accept_new_images=True)
    after = project.read()
    assert [record.images for record in rounds] == [3, 5, 7, 9, 11, 12]
    assert after["charged"] >= project.late
    assert after["pool"] == after["sizes"] == after["hashes"] == 12
    assert after["classes"] == len(project.whole["annotations"])
    assert [charge for charge in after["charges"] if charge.round < 2] == before["charges"]
    assert "after 2 finished rounds: the pool is 12 images and was 7 images" in after["amendments"]
    assert any("image files agree" in line and line.startswith("19 ") for line in after["lines"])
    assert any("the pool is 12 images" in line for line in read_status(project.run_folder).lines())


def test_a_run_whose_pool_was_exhausted_goes_on(project):
    assert [record.images for record in project.run("loop.rounds=6")] == [3, 5, 7]
    project.write(project.whole)
    assert [record.images for record in project.run("loop.rounds=6", accept_new_images=True)] == [3, 5, 7, 9, 11, 12]
    assert project.read()["charged"] >= project.late


def test_a_finished_run_takes_them_in_and_trains_nothing(project):
    project.run()
    project.write(project.whole)
    assert len(project.run(accept_new_images=True)) == 3
    assert project.read()["pool"] == 12
    before = (project.run_folder / "run.db").read_bytes()
    project.run(accept_new_images=True)
    assert (project.run_folder / "run.db").read_bytes() == before, "there is nothing new the second time"


def test_without_the_option_they_are_refused_with_the_way_out(project):
    project.run("loop.rounds=2")
    before = (project.run_folder / "run.db").read_bytes()
    project.write(project.whole)
    with pytest.raises(ConfigError, match="--accept-new-images takes them in"):
        project.run("loop.rounds=3")
    with read_ledger(project.run_folder) as ledger:
        assert ledger.pool_size() == 7
    assert (project.run_folder / "run.db").read_bytes() == before


def lose_one(tree):
    tree["images"] = tree["images"][1:]
    tree["annotations"] = [box for box in tree["annotations"] if box["image_id"] != tree["images"][0]["id"] - 1]


def rename_one(tree):
    tree["images"][0]["id"] = 77
    for box in tree["annotations"]:
        box["image_id"] = 77 if box["image_id"] == 1000000 else box["image_id"]


def move_a_box(tree):
    tree["annotations"][0]["bbox"][0] += 1


def add_a_class(tree):
    tree["categories"].append({"id": 99, "name": "new"})
    tree["annotations"][-1]["category_id"] = 99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lose_one, "is not in the pool any more"),
        (rename_one, "is not in the pool any more"),
        (move_a_box, "more than new images differs"),
        (add_a_class, "more than new images differs|not among the classes"),
    ],
)
def test_any_other_change_is_refused(project, change, words):
    project.run("loop.rounds=2")
    tree = json.loads(json.dumps(project.whole))
    change(tree)
    project.write(tree)
    with pytest.raises(ConfigError, match=words):
        project.run("loop.rounds=3", accept_new_images=True)
    with read_ledger(project.run_folder) as ledger:
        assert ledger.pool_size() == 7


def test_the_same_steps_give_the_same_bytes(tmp_path):
    models = []
    for name in "ab":
        project = Project(tmp_path / name)
        project.run("loop.rounds=2")
        project.write(project.whole)
        project.run("loop.rounds=4", accept_new_images=True)
        models.append([path.read_bytes() for path in sorted((project.run_folder / "models").iterdir())])
    assert models[0] == models[1]


def test_people_are_asked_about_them(tmp_path):
    project = Project(tmp_path, oracle={"name": "folder", "folder": str(tmp_path / "asked")})
    labels = project.whole
    project.whole = {**labels, "annotations": [], "unlabeled": [image["id"] for image in labels["images"]]}
    tree = project.without_late()
    project.write({**tree, "unlabeled": [image["id"] for image in tree["images"]]})

    def answered(**options):
        with pytest.raises(WaitingError):
            project.run("loop.rounds=6", **options)
        folder = tmp_path / "asked" / f"round_{read_status(project.run_folder).waiting_round:03d}"
        asked = {path.name for path in (folder / "images").rglob("*.png")}
        images = [image for image in labels["images"] if image["file_name"].rpartition("/")[2] in asked]
        ids = {image["id"] for image in images}
        boxes = [box for box in labels["annotations"] if box["image_id"] in ids]
        (folder / "answers.json").write_text(json.dumps({**labels, "images": images, "annotations": boxes}))

    answered()
    answered()
    project.write(project.whole)
    for _ in range(4):
        answered(accept_new_images=True)
    assert [record.images for record in project.run("loop.rounds=6", accept_new_images=True)] == [3, 5, 7, 9, 11, 12]
    assert project.read()["charged"] >= project.late
