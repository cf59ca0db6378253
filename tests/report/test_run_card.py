"""The run card counts the images of the splits, as far as runs record them."""

import numpy as np

from alloop.evaluation.detections_file import detections_to_bytes
from alloop.evaluation.matching import matched_detections
from alloop.ledger.split_images import count_test_images, record_images, recorded_images
from alloop.ledger.store import open_ledger, read_ledger
from alloop.loop.round_files import detections_path
from alloop.report.panel import PageData
from alloop.report.panels import run_card
from alloop.results.compare import compare_runs
from tests.support.resamples import random_data
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


def test_the_test_boxes_are_counted_where_a_run_kept_them(tmp_path):
    write_run(tmp_path / "r", "random", 0, [0.1])
    truth, found = random_data(np.random.default_rng(5), 3, (0.25, 0.5))
    kept = matched_detections(truth, found, list("abc"), {})
    with open_ledger(tmp_path / "r") as ledger:
        record_images(ledger, "test", [(image_id, f"{image_id}.png", "0") for image_id in truth])
        ledger.store(detections_path(0), detections_to_bytes(kept), 0)
    boxes = sum(int((~annotations.crowd).sum()) for annotations in truth.values())
    assert card(tmp_path)["test split"] == f"3 images, {boxes} boxes that count"
