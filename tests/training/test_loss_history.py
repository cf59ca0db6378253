"""Losses along a training: few rows, exact means, and the same bytes after any stop."""

import csv
import json
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alloop.randomness import RoundSeed
from alloop.training.loss_history import ROWS, LossHistory
from alloop.training.losses import LossReader
from alloop.training.schedule import lr_at
from alloop.training.supervised import SupervisedObjective, train
from tests.support.training import MemoryStore, batches_of, experiment


def table(data):
    head, *rows = csv.reader(data.decode().splitlines())
    return head, rows


@given(st.integers(1, 3000), st.data())
def test_rows_are_few_and_their_means_make_up_the_whole(steps, data):
    values = [float(k % 7) for k in range(steps)]
    stop = data.draw(st.integers(0, steps))
    history = LossHistory(steps)
    for step in range(stop):
        history.add(step, {"a": values[step], "b": 1.0})
    resumed = LossHistory(steps)
    resumed.restore(json.loads(json.dumps(history.state())))
    for step in range(stop, steps):
        history.add(step, {"a": values[step], "b": 1.0})
        resumed.add(step, {"a": values[step], "b": 1.0})
    assert history.to_csv(lambda _: 0.1) == resumed.to_csv(lambda _: 0.1)
    head, rows = table(history.to_csv(lambda step: step))
    assert head == ["step", "lr", "loss", "a", "b"]
    assert len(rows) <= ROWS
    ends = [int(row[0]) for row in rows]
    assert ends[-1] == steps
    assert [float(row[1]) for row in rows] == [float(f"{end - 1:.6g}") for end in ends]
    whole = sum((end - before) * float(row[3]) for row, end, before in zip(rows, ends, [0, *ends], strict=False))
    assert whole == pytest.approx(sum(values), rel=1e-4)
    assert all(float(row[2]) == pytest.approx(float(row[3]) + 1, rel=1e-4) for row in rows)


def test_a_term_that_begins_later_is_empty_before_and_means_over_its_own_steps():
    history = LossHistory(3 * ROWS)
    for step in range(3 * ROWS):
        history.add(step, {"labeled": 2.0} | ({"unlabeled, weighted": 5.0} if step >= 4 else {}))
    head, rows = table(history.to_csv(lambda _: 0.0))
    assert head[3:] == ["labeled", "unlabeled, weighted"]
    assert [row[2:] for row in rows[:3]] == [["2", "2", ""], ["7", "2", "5"], ["7", "2", "5"]]


def losses_of(made, store):
    labeled = dict(list(made.splits.train.dataset.annotations.items())[:10])
    detector = made.new_detector(0)
    history = train(
        detector,
        SupervisedObjective(detector, batches_of(made, labeled)),
        made.config.training,
        steps=5,
        seed=RoundSeed(0, 0),
        device=torch.device("cpu"),
        store=store,
        progress=lambda *_: None,
    )
    return history.to_csv(partial(lr_at, made.config.training, steps=5))


def late_add(self, loss):
    """Read one step late, as on a GPU."""
    self._pending = loss, torch.stack([term.detach().sum() for term in loss.terms.values()]), None


def test_a_training_that_goes_on_from_any_checkpoint_writes_the_same_bytes(monkeypatch):
    made = experiment(**{"training.checkpoint_seconds": 0, "training.batch_size": 3})
    store = MemoryStore()
    straight = losses_of(made, store)
    assert len(store.saved) == 4
    assert all(losses_of(made, MemoryStore(state)) == straight for _, state in store.saved)
    monkeypatch.setattr(LossReader, "add", late_add)
    late = MemoryStore()
    assert losses_of(made, late) == straight
    assert losses_of(made, MemoryStore(late.saved[2][1])) == straight
