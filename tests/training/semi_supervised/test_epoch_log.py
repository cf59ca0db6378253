"""One record per epoch, with the counts of that epoch alone."""

import numpy as np
import torch

from alloop.training.semi_supervised.epoch_log import EpochLog


def test_every_record_counts_its_own_epoch():
    log = EpochLog(classes=2)
    for step in (4, 9):
        log.counts += np.array([[3, 1], [2, 0], [5, 5]])
        log.unlabeled_images += 6
        log.end_epoch(step, {"thresholds": [0.9, 0.9]}, truth_known=True)
    expected = {"unlabeled_images": 6, "thresholds": [0.9, 0.9], "pseudo": [3, 1], "right": [2, 0], "true": [5, 5]}
    assert log.records == [{"step": 5, **expected}, {"step": 10, **expected}]


def test_counts_are_left_out_where_the_truth_is_not_known():
    log = EpochLog(classes=2)
    log.end_epoch(0, {}, truth_known=False)
    assert log.records == [{"step": 1, "unlabeled_images": 0}]


def test_a_restored_log_goes_on_inside_its_epoch():
    log, other = EpochLog(classes=2), EpochLog(classes=2)
    log.end_epoch(0, {}, truth_known=True)
    log.counts += 1
    log.unlabeled_images = 3
    other.restore(log.to_tensor(), torch.from_numpy(log.counts), 3)
    for each in (log, other):
        each.end_epoch(1, {}, truth_known=True)
    assert other.records == log.records
