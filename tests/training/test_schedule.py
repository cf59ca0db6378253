"""Learning rate, number of steps, and the steps after which states are kept."""

import pytest
from pydantic import ValidationError

from alloop.config import parse_config
from alloop.config.training import TrainingConfig
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.training.schedule import long_warmup, lr_at, snapshot_steps, total_steps
from strategies import TABLE
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


def test_a_warmup_may_be_a_share_of_the_training_and_may_stay_constant():
    share = TrainingConfig(epochs=2, batch_size=4, lr=1.0, warmup_share=0.1, warmup_ratio=0.2, schedule="constant")
    assert [lr_at(share, step, 100) for step in (0, 5, 9, 10)] == pytest.approx([0.2, 0.6, 0.92, 1.0])
    assert lr_at(share, 5, 50) == 1.0, "half as many steps have half the warm-up"
    constant = share.model_copy(update={"warmup_shape": "constant"})
    assert [lr_at(constant, step, 100) for step in (0, 9, 10)] == [0.2, 0.2, 1.0]
    with pytest.raises(ValidationError, match="either warmup_iterations or warmup_share"):
        TrainingConfig(iterations=10, warmup_iterations=2, warmup_share=0.1)


@pytest.mark.parametrize(
    ("warmup", "images", "share"),
    [
        ({"warmup_iterations": 500}, 1464, "46% of the 1098 steps"),
        ({"warmup_iterations": 500}, 439, "100% of the 330 steps"),
        ({"warmup_iterations": 219}, 1464, None),
        ({"warmup_iterations": 220}, 1464, "20% of the 1098 steps"),
        ({"warmup_share": 0.05}, 10, None),
        ({}, 1464, None),
    ],
)
def test_a_warmup_of_more_than_a_fifth_is_warned_of(warmup, images, share):
    """Keeping 30 % of VOC's 1,464 images would train in the warm-up alone, with another peak for each share kept."""
    warnings = long_warmup(TrainingConfig(epochs=12, batch_size=16, **warmup), images)
    assert len(warnings) == (share is not None)
    assert all(share in warning and f"on {images} images" in warning for warning in warnings)


def test_a_run_records_the_warning(tmp_path):
    tree = small_tree(**{"training.warmup_iterations": 3, "loop.rounds": 1})
    run_experiment(parse_config(tree), tmp_path, TABLE)
    with read_ledger(tmp_path) as ledger:
        assert any("warm-up covers 75% of the 4 steps" in warning for warning in ledger.facts().warnings)
