"""The run card counts the images of the splits, as far as runs record them."""

from alloop.ledger.split_images import count_test_images, recorded_images
from alloop.ledger.store import read_ledger
from alloop.report.panel import PageData
from alloop.report.panels import run_card
from alloop.results.compare import compare_runs
from tests.support.runs import write_run


def card(folder):
    comparison = compare_runs([folder])
    (values,) = run_card.PANEL.sections(PageData(comparison, comparison))
    return {name: cell.text for name, cell in values["table"].rows}


def test_the_images_of_pool_and_test_split_are_counted(study):
    folder = study[0] / "name=fcos"
    with read_ledger(folder / "random_seed0") as ledger:
        recorded, facts = recorded_images(ledger), ledger.facts()
        assert count_test_images(ledger) == len(recorded["test"]) > 0
    rows = card(folder)
    assert rows["run"] == "random_seed0"
    assert rows["pool"] == f"{len(recorded['train'])} images, {sum(facts.pool_class_boxes)} boxes"
    assert rows["test split"] == f"{len(recorded['test'])} images"


def test_what_is_not_recorded_is_not_invented(tmp_path):
    write_run(tmp_path / "r", "random", 0, [0.1, 0.2])
    assert card(tmp_path)["test split"] == "not recorded"
    assert card(tmp_path)["pool"] == "29 images"
