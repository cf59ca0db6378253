"""Rounds with a teacher: nothing of it is paid for, and what cannot work is refused."""

import pytest

from alloop.config import parse_config
from alloop.errors import ConfigError
from alloop.ledger.audit import audit
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.experiment import prepare
from strategies import TABLE
from tests.support import small_tree
from tests.support.semi_supervised import ALL, semi
from tests.support.training import experiment


def test_pseudo_labels_are_never_paid_for(tmp_path):
    tree = small_tree(**semi(**ALL), **{"strategy.name": "learning_loss"})
    rounds = run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    made = prepare(parse_config(tree), TABLE)
    with read_ledger(tmp_path / "run") as ledger:
        assert not audit(ledger)
        truths = made.splits.train.dataset.annotations
        for image_id, paid in ledger.labeled().items():
            assert paid.boxes.tolist() == truths[image_id].boxes.tolist()
        assert ledger.spent().images == 14
    assert [bool(r.training_log) for r in rounds] == [True, True, True]
    last = rounds[-1].training_log[-1]
    assert last["step"] == 4
    assert len(last["class_weights"]) == 11
    assert sum(last["class_weights"]) == pytest.approx(11, abs=1e-2)
    assert len(last["thresholds"]) == len(last["pseudo"]) == 10


def test_without_unlabeled_images_the_training_is_supervised(tmp_path):
    tree = small_tree(**semi(), **{"loop.seed_set": 24, "loop.rounds": 1})
    alone = small_tree(**{"detector.name": "faster_rcnn", "training.batch_size": 3})
    alone["loop"] |= {"seed_set": 24, "rounds": 1}
    rounds = run_experiment(parse_config(tree), tmp_path / "a", TABLE)
    plain = run_experiment(parse_config(alone), tmp_path / "b", TABLE)
    assert rounds[0].metrics == plain[0].metrics
    assert not rounds[0].training_log


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"detector.name": "fcos"}, "soft_teacher weighs and regresses the regions of a second stage"),
        ({"detector.name": "retinanet"}, "take style: unbiased_teacher"),
        ({"detector.name": "mask_rcnn"}, "gives no masks to learn from"),
        ({"training.ema": 0.0}, "the teacher is the average of the weights; set training.ema"),
        ({"training.semi_supervised": {"styl": "soft_teacher"}}, "unknown key"),
        (
            {
                "detector.name": "fcos",
                "training.semi_supervised": {"style": "unbiased_teacher", "gradient_balance": True},
            },
            "needs a softmax over the classes and the background",
        ),
    ],
)
def test_settings_that_do_not_apply_are_refused_with_the_reason(changes, reason):
    with pytest.raises(ConfigError, match=reason):
        experiment(**{**semi(), **changes})
