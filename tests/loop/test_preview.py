"""What a run would take next, before it is recorded."""

import pytest

from alloop.config import parse_config
from alloop.errors import ConfigError, WaitingError
from alloop.ledger.requests import AnnotationRequests
from alloop.ledger.store import read_ledger
from alloop.loop import engine
from alloop.loop.engine import run_experiment
from alloop.loop.preview import preview
from alloop.results.next_purchase import preview_lines
from strategies import TABLE
from tests.support import small_tree
from tests.support.commands import call
from tests.support.people import Annotator, charges, tree_of


class KilledError(Exception):
    """Stands for the end of the process."""


def bought(folder):
    with read_ledger(folder) as ledger:
        return {(round_, image_id): utility for round_, _, image_id, utility, _ in ledger.selections()}


def killed_in_round_0(config, folder, monkeypatch, before="choice"):
    def kill(*_args):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(engine, before, kill)
        with pytest.raises(KilledError):
            run_experiment(config, folder, TABLE)


@pytest.mark.parametrize("strategy", ["random", "entropy", "k_center"])
def test_a_simulated_run_buys_what_was_shown_and_is_the_same_run(tmp_path, monkeypatch, strategy):
    config = parse_config(small_tree(**{"loop.rounds": 2, "strategy.name": strategy}))
    run_experiment(config, tmp_path / "whole", TABLE)
    killed_in_round_0(config, tmp_path / "run", monkeypatch)
    before = (tmp_path / "run" / "run.db").read_bytes()
    shown = [preview(tmp_path / "run", TABLE) for _ in range(2)]
    assert bought(tmp_path / "run") == {}
    for found in shown:
        utilities = found.chosen.selection.utilities
        of_images = dict(zip([(0, i) for i in found.chosen.selection.image_ids], utilities, strict=True))
        assert of_images == bought(tmp_path / "whole")
    assert len(before) <= len((tmp_path / "run" / "run.db").read_bytes())
    run_experiment(config, tmp_path / "run", TABLE)
    for read in (bought, charges):
        assert read(tmp_path / "run") == read(tmp_path / "whole")


def test_people_are_asked_for_what_was_shown_and_not_before(files, tmp_path):
    tree = tree_of(files, tmp_path / "asked", **{"loop.rounds": 2, "loop.budget": "90 images"})
    config, annotator = parse_config(tree), Annotator(files, tmp_path / "asked")
    with pytest.raises(WaitingError):
        run_experiment(config, tmp_path / "run", TABLE)
    with pytest.raises(WaitingError, match="round 0 waits for people"):
        preview(tmp_path / "run", TABLE)
    annotator.answer(0)
    found = preview(tmp_path / "run", TABLE)
    assert not (tmp_path / "asked" / "round_001").exists()
    with read_ledger(tmp_path / "run") as ledger:
        assert AnnotationRequests(ledger).pending() is None
    with pytest.raises(WaitingError):
        run_experiment(config, tmp_path / "run", TABLE)
    with read_ledger(tmp_path / "run") as ledger:
        requests = AnnotationRequests(ledger).of_round(1)
    assert [(r.image_id, r.predicted_boxes) for r in requests] == list(
        zip(found.chosen.selection.image_ids, found.chosen.predicted_boxes, strict=True)
    )
    lines = preview_lines(found)
    boxes = round(sum(r.predicted_boxes for r in requests))
    assert lines[0] == f"round 1 would ask people for {len(requests)} images, with {boxes} boxes by prediction"
    assert "budget   90 images" in lines


def test_where_nothing_is_left_it_says_so(tmp_path):
    config = parse_config(small_tree(**{"loop.rounds": 1}))
    run_experiment(config, tmp_path / "run", TABLE)
    with pytest.raises(ConfigError, match="nothing is left to ask for"):
        preview(tmp_path / "run", TABLE)
    with pytest.raises(ConfigError, match="found none"):
        preview(tmp_path / "elsewhere", TABLE)


def test_in_the_last_round_nothing_is_trained_for_it(tmp_path, monkeypatch):
    config = parse_config(small_tree(**{"loop.rounds": 1}))
    killed_in_round_0(config, tmp_path / "run", monkeypatch, before="trained_and_evaluated")
    with pytest.raises(ConfigError, match="nothing is left to ask for"):
        preview(tmp_path / "run", TABLE)
    assert not (tmp_path / "run" / "models").exists()


def test_the_command_prints_the_images_and_writes_a_page(tmp_path, monkeypatch):
    config = parse_config(small_tree(**{"loop.rounds": 2}))
    killed_in_round_0(config, tmp_path / "run", monkeypatch)
    output = call("ask", tmp_path / "run", "--page", tmp_path / "next.html", "--quiet").output
    found = preview(tmp_path / "run", TABLE)
    for line in preview_lines(found):
        assert line in output
    names = [found.pool.dataset.images[i].file_name for i in found.chosen.selection.image_ids]
    page = (tmp_path / "next.html").read_text()
    assert all(name in output and name in page for name in names)
    assert page.count('<img src="data:image/jpeg;base64,') == len(names)
