"""Learning rate, number of steps, and the steps after which states are kept."""

import pytest

from alloop.config import parse_config
from alloop.config.blocks import TrainingConfig
from alloop.training.schedule import lr_at, snapshot_steps, total_steps
from tests.support import small_tree


def test_schedule():
    config = TrainingConfig(
        iterations=100, lr=1.0, warmup_iterations=10, warmup_ratio=0.1, schedule="step", milestones=(0.5, 0.9)
    )
    assert lr_at(config, 0, 100) == pytest.approx(0.1)
    assert lr_at(config, 5, 100) == pytest.approx(0.55)
    assert [lr_at(config, s, 100) for s in (10, 49, 50, 90)] == pytest.approx([1.0, 1.0, 0.1, 0.01])
    cosine = TrainingConfig(iterations=100, lr=1.0, schedule="cosine")
    assert lr_at(cosine, 50, 100) == pytest.approx(0.5)
    assert total_steps(TrainingConfig(epochs=3, batch_size=8), 20) == 8
    assert total_steps(config, 20) == 100


@pytest.mark.parametrize(
    ("kept", "wanted", "steps"), [(None, False, ()), (None, True, (5, 10)), (3, False, (3, 7, 10)), (0, True, ())]
)
def test_states_are_kept_at_equal_distances(kept, wanted, steps):
    config = parse_config(small_tree(**{"training.iterations": 10, "training.snapshots": kept})).training
    assert snapshot_steps(config, 20, wanted=wanted) == steps


def test_one_state_per_epoch_by_default():
    config = parse_config(small_tree(**{"training.iterations": None, "training.epochs": 4})).training
    assert snapshot_steps(config, 20, wanted=True) == (5, 10, 15, 20)
