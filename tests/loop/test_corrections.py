"""Labels that people corrected after they were booked: taken in on request, trained on, charged, both versions kept."""

import shutil

import msgspec
import pytest

from alloop.config import parse_config
from alloop.data.annotation_json import annotation_sha256
from alloop.errors import ConfigError, WaitingError
from alloop.exporting.export import export
from alloop.ledger.audit import audit
from alloop.ledger.labeled_images import class_counts, labeled_images
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.results.status import read_status
from strategies import TABLE
from tests.support.people import Annotator, tree_of, write_answers

RATES = {"box": 1.0, "moved": 0.5, "deleted": 0.25, "added": 2.0}


class Project:
    """A run of three rounds whose people answer round 0 and then think again."""

    def __init__(self, files, folder, **changes):
        self.folder, self.people = folder / "run", Annotator(files, folder / "asked")
        tree = tree_of(files, folder / "asked", **{"training.iterations": 2, **changes})
        tree["oracle"]["rates"] = RATES
        self.config = parse_config(tree)
        self.wait()
        self.people.answer(0)
        self.wait()

    def run(self, **options):
        return run_experiment(self.config, self.folder, TABLE, **options)

    def wait(self, **options):
        with pytest.raises(WaitingError):
            self.run(**options)

    def correct(self, change, round_=0):
        """Change the answers of a round: `change` is given the boxes of one image that has at least two."""
        records = self.people.part(self.people.tasks(round_))
        by_image = {i.image_id: [b for b in records.annotations if b.image_id == i.image_id] for i in records.images}
        image_id = next(i for i, boxes in by_image.items() if len(boxes) >= 2)
        by_image[image_id] = change(by_image[image_id])
        records.annotations = [box for boxes in by_image.values() for box in boxes]
        write_answers(self.people.folder / f"round_{round_:03d}", "coco", records)
        return image_id

    def read(self):
        with read_ledger(self.folder) as ledger:
            assert audit(ledger) == []
            return {
                "now": ledger.labeled(),
                "round 0": ledger.labeled(0),
                "boxes": ledger.spent().boxes,
                "images": ledger.spent().images,
                "charges": ledger.charges(),
                "charged": ledger.charged(),
                "rounds": [(r.images, r.boxes) for r in ledger.rounds()],
                "classes": class_counts(ledger),
                "hashes": {image_id: annotation_sha256(truth) for image_id, truth in ledger.labeled().items()},
            }


@pytest.fixture
def project(files, tmp_path):
    return Project(files, tmp_path)


def figures(found):
    """What can be compared; the hashes stand for the labels."""
    return {name: value for name, value in found.items() if name not in ("now", "round 0")}


def added(boxes):
    return [*boxes, msgspec.structs.replace(boxes[0], id=999, bbox=(40.0, 40.0, 9.0, 9.0))]


def removed(boxes):
    return boxes[1:]


def moved(boxes):
    x, y, width, height = boxes[0].bbox
    return [msgspec.structs.replace(boxes[0], bbox=(x, y, width - 2, height)), *boxes[1:]]


@pytest.mark.parametrize(
    ("change", "boxes", "cost"), [(added, 1, 2.0), (removed, 0, 0.25), (moved, 0, 0.5), (lambda b: b, None, None)]
)
def test_a_correction_is_charged_by_the_rates_and_a_box_once(project, change, boxes, cost):
    before = project.read()
    image_id = project.correct(change)
    project.wait(accept_revisions=True)
    after = project.read()
    extra = [row for row in after["charges"] if row not in before["charges"]]
    if boxes is None:
        assert figures(after) == figures(before)
        return
    ((round_, image, booked, _, paid),) = [(c.round, c.image_id, c.boxes, c.seconds, c.cost) for c in extra]
    assert (round_, image, booked, paid) == (1, image_id, boxes, pytest.approx(cost))
    assert after["boxes"] == before["boxes"] + boxes
    assert after["images"] == before["images"]
    assert len(after["now"][image_id]) != len(before["now"][image_id]) or change is moved
    assert len(after["round 0"][image_id]) == len(before["now"][image_id]), "both versions are kept"
    (line,) = [line for line in read_status(project.folder).lines() if "corrected" in line]
    assert (
        line == f"people   round 1: corrected labels of 1 booked images taken in; {boxes} more boxes, cost {cost:.2f}"
    )


def test_without_the_option_nothing_is_taken_in(project):
    before = project.read()
    project.correct(added)
    project.wait()
    assert figures(project.read()) == figures(before)
    project.wait(accept_revisions=True)
    assert project.read()["boxes"] == before["boxes"] + 1, "a version that was only recorded can be taken in later"


def test_the_same_correction_is_taken_in_once_and_a_second_one_replaces_it(project):
    before = project.read()["boxes"]
    project.correct(added)
    for _ in range(2):
        project.wait(accept_revisions=True)
        assert project.read()["boxes"] == before + 1
    project.correct(lambda boxes: added(added(boxes)))
    project.wait(accept_revisions=True)
    assert project.read()["boxes"] == before + 2
    project.correct(lambda boxes: boxes)
    project.wait(accept_revisions=True)
    assert project.read()["boxes"] == before


def test_the_next_rounds_train_on_it_and_the_first_does_not(project):
    image_id = project.correct(removed)
    project.wait(accept_revisions=True)
    project.people.answer(1)
    project.wait()
    project.people.answer(2)
    project.run()
    found = project.read()
    assert [images for images, _ in found["rounds"]] == [6, 10, 14]
    assert [boxes for _, boxes in found["rounds"]] == [
        sum(c.boxes for c in found["charges"] if c.round <= r) for r in range(3)
    ]
    with read_ledger(project.folder) as ledger:
        first, second = (
            {image.image_id: image for image in labeled_images(ledger, round_)}[image_id] for round_ in (0, 1)
        )
        assert first.boxes == second.boxes + 1
        assert first.annotation_sha256 != second.annotation_sha256
        labels = [label for truth in ledger.labeled().values() for label in truth.labels.tolist()]
    assert sum(n for _, _, n in found["classes"]) == len(labels)
    assert [charge.images for charge in found["charged"]] == [6, 4, 4]


def test_a_box_that_comes_back_is_not_charged_again(project):
    project.correct(removed)
    project.wait(accept_revisions=True)
    project.people.answer(1)
    project.wait()
    before = project.read()
    project.correct(lambda boxes: boxes)
    project.wait(accept_revisions=True)
    assert project.read()["boxes"] == before["boxes"]
    assert sum(map(len, project.read()["now"].values())) == sum(map(len, before["now"].values())) + 1


def test_an_exported_round_has_the_labels_of_that_round(project, tmp_path):
    project.correct(removed)
    project.wait(accept_revisions=True)
    project.people.answer(1)
    project.wait()
    boxes = [export(project.folder, tmp_path / f"out{round_}", round_=round_).boxes for round_ in (0, 1)]
    found = project.read()
    assert boxes == [sum(map(len, found["round 0"].values())), sum(map(len, found["now"].values()))]


def test_a_run_that_began_with_the_correct_labels_trains_the_same_detector(files, tmp_path):
    """The first round differs, and so may what is chosen after it; the strategy here is random."""
    random = {"strategy": {"name": "random"}}
    late, early = Project(files, tmp_path / "late", **random), tmp_path / "early"
    image_id = late.correct(moved)
    late.wait(accept_revisions=True)
    late.people.answer(1)
    late.wait()
    shutil.copytree(late.people.folder, early / "asked")
    tree = tree_of(files, early / "asked", **{"training.iterations": 2, **random})
    with pytest.raises(WaitingError):
        run_experiment(parse_config(tree), early / "run", TABLE)
    models = [(folder / "models" / "round_001.safetensors").read_bytes() for folder in (late.folder, early / "run")]
    assert models[0] == models[1]
    with read_ledger(early / "run") as ledger:
        assert len(ledger.labeled()[image_id]) == len(late.read()["now"][image_id])


def test_a_budget_is_not_passed_by_corrections(files, tmp_path):
    project = Project(files, tmp_path, **{"loop.budget": "20 images"})
    used = project.read()["boxes"]
    project.config = parse_config(
        {
            **project.config.model_dump(mode="json"),
            "loop": {**project.config.loop.model_dump(mode="json"), "budget": f"{used} boxes"},
        }
    )
    before = project.read()
    project.correct(added)
    with pytest.raises(ConfigError, match=r"loop\.budget: \d+ boxes does not pay for the corrected labels"):
        project.run(accept_revisions=True)
    assert figures(project.read()) == figures(before)


def test_the_audit_sees_a_correction_that_was_tampered_with(project):
    import sqlite3

    project.correct(added)
    project.wait(accept_revisions=True)
    with sqlite3.connect(project.folder / "run.db") as database:
        database.execute("UPDATE correction SET boxes = boxes + 1")
    with read_ledger(project.folder) as ledger:
        assert any("correction of image" in line and "2 boxes booked, 1 stored" in line for line in audit(ledger))
