"""Metrics and their JSON, which run folders and shared models of earlier versions hold."""

import json

from alloop.evaluation.metrics import Metrics

AP = {"ap": 0.25, "ap50": 0.5, "ap_large": None}


def test_the_json_is_that_of_recorded_runs():
    plain = Metrics(AP, {"cat": 0.25, "dog": None})
    assert json.dumps(plain.to_json()) == (
        '{"values": {"ap": 0.25, "ap50": 0.5, "ap_large": null}, "per_class": {"cat": 0.25, "dog": null}}'
    )
    assert Metrics(AP, {}, [{"step": 3}]).to_json() == {"values": AP, "per_class": {}, "course": [{"step": 3}]}


def test_reading_gives_back_what_was_written():
    for metrics in (Metrics(AP, {"cat": 0.25}), Metrics(AP, {}, []), Metrics({}, {}, [{"step": 3}])):
        assert Metrics.from_json(json.loads(json.dumps(metrics.to_json()))) == metrics


def test_metrics_of_masks_stand_beside_those_of_boxes():
    both = Metrics({"ap": 0.5}, {"cat": 0.5}).with_masks(Metrics({"ap": 0.25}, {"cat": 0.25}))
    assert both == Metrics({"ap": 0.5, "mask_ap": 0.25}, {"cat": 0.5})
