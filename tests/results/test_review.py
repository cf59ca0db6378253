"""What people have answered so far."""

import shutil

import msgspec
import pytest

from alloop.config import parse_config
from alloop.errors import ConfigError, WaitingError
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.results.review import read_review
from strategies import TABLE
from tests.support.commands import call
from tests.support.people import Annotator, tree_of, write_answers

RATES = {"image": 0.1, "box": 1.0, "accepted": 0.25, "moved": 0.5, "deleted": 0.2}


@pytest.fixture
def waiting(files, tmp_path):
    """Return a run that waits in round 1, whose people are shown boxes, and its annotator."""
    tree = tree_of(files, tmp_path / "asked", **{"loop.rounds": 2, "training.iterations": 60})
    tree["oracle"] |= {"rates": RATES, "show_threshold": 0.2}
    config, annotator = parse_config(tree), Annotator(files, tmp_path / "asked")

    def run(**options):
        return run_experiment(config, tmp_path / "run", TABLE, **options)

    for round_ in (0, None):
        with pytest.raises(WaitingError):
            run()
        if round_ is not None:
            annotator.answer(round_)
    return tmp_path / "run", annotator, run


def booked(folder, round_):
    with read_ledger(folder) as ledger:
        return next((c for c in ledger.charged() if c.round == round_), None)


def test_before_anybody_answered_the_request_is_shown(waiting):
    folder, annotator, _ = waiting
    review = read_review(folder)
    assert [image.answer.state for image in review.images] == ["todo"] * 4
    assert sorted(image.file_name for image in review.images) == annotator.tasks(1)
    assert review.lines()[0] == "round 1 waits for people: 4 images, 4 todo"
    assert review.lines()[-1] == "nothing can be booked yet"


def test_what_it_says_is_what_is_booked(waiting):
    folder, annotator, run = waiting
    annotator.answer(1)
    before = (folder / "run.db").read_bytes()
    review = read_review(folder)
    assert (folder / "run.db").read_bytes() == before
    boxes, cost = sum(image.boxes for image in review.images), sum(image.cost for image in review.images)
    assert review.lines()[-1] == f"the next `alloop run` books 4 images, {boxes} boxes, cost {cost:.2f}"
    run()
    charged = booked(folder, 1)
    assert (charged.images, charged.boxes) == (4, boxes)
    assert charged.cost == pytest.approx(cost)
    with pytest.raises(ConfigError, match="waits for nobody"):
        read_review(folder)


def test_a_part_is_priced_as_accept_partial_books_it(waiting):
    folder, annotator, run = waiting
    annotator.answer(1, annotator.tasks(1)[:3])
    review = read_review(folder)
    last = review.lines()[-1]
    assert last.startswith("`alloop run --accept-partial` would book 3 images, ")
    run(accept_partial=True)
    charged = booked(folder, 1)
    assert f"{charged.boxes} boxes, cost {charged.cost:.2f};" in last


def test_changes_to_the_shown_boxes_are_counted_and_odd_images_are_named(waiting):
    folder, annotator, _ = waiting
    records = annotator.part(annotator.tasks(1))
    image = records.images[0]
    template = annotator.records.annotations[0]
    many = [
        msgspec.structs.replace(template, id=900 + n, image_id=image.image_id, bbox=(1.0 + n, 1.0, 8.0, 8.0))
        for n in range(30)
    ]
    records.annotations = [box for box in records.annotations if box.image_id != image.image_id] + many
    write_answers(annotator.folder / "round_001", "coco", records)
    review = read_review(folder)
    (line,) = [line for line in review.lines() if line.startswith("look at")]
    assert image.file_name in line
    rows = {row[0]: row for row in review.table().rows}
    row = rows[image.file_name]
    shown = next(r for r in review.images if r.file_name == image.file_name).request.pre_annotations
    kept, moved, deleted, added = map(int, row[-4:])
    assert kept + moved + deleted == len(shown)
    assert kept + moved + added == 30 == int(row[5])


def test_the_command_prints_it_and_writes_a_page(waiting, tmp_path):
    folder, annotator, _ = waiting
    annotator.answer(1, annotator.tasks(1)[:2])
    page = tmp_path / "review <1>.html"
    output = call("review", folder, "--page", page).output
    for line in read_review(folder).lines():
        assert line in output
    text = page.read_text()
    assert text.count('<img src="data:image/jpeg;base64,') == 4
    assert "came back: " in text
    assert "http" not in text.replace("http-equiv", "")
    assert all(name in text for name in annotator.tasks(1))


def test_answers_that_were_moved_away_are_told(waiting):
    folder, annotator, _ = waiting
    shutil.move(annotator.folder, annotator.folder.with_name("elsewhere"))
    result = call("review", folder, code=2)
    assert "oracle.folder: there is no" in result.output


def test_a_simulated_run_has_nothing_to_review(files, tmp_path):
    run_experiment(parse_config(tree_of(files, **{"loop.rounds": 1})), tmp_path / "run", TABLE)
    assert "waits for nobody" in call("review", tmp_path / "run", code=2).output
