"""Rounds with balanced classes: refused where they make no sense, and the same bytes after any stop."""

import shutil

import pytest
import safetensors.torch
import torch

from alloop.config import parse_config
from alloop.config.tables import CLASS_BALANCE
from alloop.detectors.torchvision.region_logits import SIGMOIDS, SOFTMAX
from alloop.errors import ConfigError
from alloop.ledger.audit import audit
from alloop.ledger.store import Ledger, read_ledger
from alloop.loop.checks import refuse_unbalanced
from alloop.loop.class_balancing import balanced
from alloop.loop.engine import run_experiment
from alloop.loop.experiment import prepare, training_key
from alloop.randomness import RoundSeed
from alloop.training.class_balance.classifier_retraining import retraining_seed
from alloop.training.class_balance.logit_adjustment import logit_shifts
from strategies import TABLE
from tests.support import small_tree
from tests.support.training import experiment

BIAS = "roi_heads.box_predictor.cls_score.bias"
TEACHER = {"unlabeled_ratio": 1, "threshold": 0.06, "warm_up": 0.1}


def tree(block, **changes):
    return small_tree(
        **{
            "detector.name": "faster_rcnn",
            "training.batch_size": 3,
            "training.checkpoint_seconds": 0,
            "training.class_balance": block,
            "loop.rounds": 1,
            **changes,
        }
    )


def run(folder, block, **changes):
    return run_experiment(parse_config(tree(block, **changes)), folder, TABLE)


def weights(folder, round_=0):
    return safetensors.torch.load_file(folder / f"models/round_{round_:03d}.safetensors")


@pytest.mark.parametrize("detector", ["fcos", "retinanet"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("logit_adjustment", "would keep their order"),
        ("classifier_retraining", "nearly all of them are background"),
        ("equalization_loss", "its focal loss has weights of its own"),
    ],
)
def test_one_stage_detectors_are_refused_with_the_reason(detector, name, reason):
    with pytest.raises(ConfigError, match=rf"training\.class_balance: {name}.*{detector}.*{reason}"):
        experiment(**{"detector.name": detector, "training.class_balance": {"name": name}})


def test_a_network_that_is_not_what_its_plugin_declares_is_refused():
    made = experiment()
    refuse_unbalanced(made.config.training, made.detector, "fcos")
    with pytest.raises(ConfigError, match="expected a BalancedDetector, as the plug-in declares"):
        balanced(made.new_detector(0))


@pytest.mark.parametrize("name", ["faster_rcnn", "faster_rcnn_c4", "mask_rcnn"])
def test_logits_are_read_as_the_method_trains_them(name):
    backbone = {"detector.backbone": "resnet18", "detector.weights": "none"} if name.endswith("c4") else {}
    for method in [None, *CLASS_BALANCE]:
        block = None if method is None else {"name": method}
        made = experiment(**{"detector.name": name, "training.class_balance": block, **backbone})
        expected = SIGMOIDS if method == "equalization_loss" else SOFTMAX
        assert made.new_detector(0).module.roi_heads.reading == expected


@pytest.mark.parametrize("semi", [None, TEACHER])
def test_logit_adjustment_only_shifts_the_biases_of_the_trained_model(tmp_path, semi):
    changes = {"training.semi_supervised": semi, "training.repeat_threshold": 0.9}
    run(tmp_path / "plain", None, **changes)
    run(tmp_path / "adjusted", {"name": "logit_adjustment", "tau": 0.7}, **changes)
    plain, adjusted = weights(tmp_path / "plain"), weights(tmp_path / "adjusted")
    assert [name for name in plain if not torch.equal(plain[name], adjusted[name])] == [BIAS]
    shift = adjusted[BIAS] - plain[BIAS]
    assert shift[0] == 0
    with read_ledger(tmp_path / "plain") as ledger:
        labeled = ledger.labeled()
    counts = shown_boxes({i: truth.labels[truth.trainable] for i, truth in labeled.items()}, 0.9)
    assert shift[1:].numpy() == pytest.approx(logit_shifts(counts, 0.7), abs=1e-5)


def shown_boxes(labels, threshold):
    """Count the boxes of an epoch, image by image, with the repeats of RFS."""
    share = {c: sum(c in own for own in labels.values()) / len(labels) for c in range(10)}
    counts = torch.zeros(10, dtype=torch.int64)
    for own in labels.values():
        factor = max([max(1.0, (threshold / share[int(c)]) ** 0.5) for c in own], default=1.0)
        for c in own:
            counts[int(c)] += int(-(-factor // 1))
    return counts.numpy()


def test_retraining_changes_one_layer_of_the_trained_model(tmp_path):
    run(tmp_path / "plain", None)
    run(tmp_path / "retrained", {"name": "classifier_retraining", "share": 0.5})
    plain, other = weights(tmp_path / "plain"), weights(tmp_path / "retrained")
    assert {k for k in plain if not torch.equal(plain[k], other[k])} == {BIAS, BIAS.replace("bias", "weight")}


def test_a_retraining_repeats_no_random_choice_of_the_training(tmp_path, monkeypatch):
    from alloop.loop import class_balancing

    seeds, steps = [], []

    def seen(_detector, batches, _config, **arguments):
        seeds.extend([arguments["seed"], batches._seed])
        steps.append(arguments["steps"])

    monkeypatch.setattr(class_balancing, "retrain_classifier", seen)
    run(tmp_path, {"name": "classifier_retraining", "share": 0.75}, random_seed=7)
    assert seeds == [retraining_seed(RoundSeed(7, 0))] * 2
    assert seeds[0] != RoundSeed(7, 0)
    assert steps == [3]


class StoppedError(Exception):
    """Stands for a kill."""


def stop_after(monkeypatch, calls):
    """Raise after the n-th file that the ledger stores or drops."""
    left = {"calls": calls}

    def counted(original):
        def wrapped(*args, **kwargs):
            result = original(*args, **kwargs)
            left["calls"] -= 1
            if left["calls"] == 0:
                raise StoppedError
            return result

        return wrapped

    for name in ("store", "drop"):
        monkeypatch.setattr(Ledger, name, counted(getattr(Ledger, name)))


def record(folder):
    with read_ledger(folder) as ledger:
        assert audit(ledger) == []
        rounds = [(r.round, dict(r.metrics), r.training_log) for r in ledger.rounds()]
        return rounds, [(path, sha256) for path, sha256, step in ledger.files() if step is None]


@pytest.mark.parametrize(
    ("block", "semi"),
    [
        ({"name": "classifier_retraining", "share": 1.0}, None),
        ({"name": "classifier_retraining", "share": 0.5}, TEACHER),
        ({"name": "equalization_loss"}, TEACHER),
        ({"name": "logit_adjustment"}, None),
    ],
)
def test_stopped_after_any_stored_file_it_ends_the_same(tmp_path, block, semi):
    changes = {"training.semi_supervised": semi, "training.iterations": 3}
    run(tmp_path / "straight", block, **changes)
    expected, steps = record(tmp_path / "straight"), 0
    for calls in range(1, 60):
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, calls)
            try:
                run(tmp_path / "stopped", block, **changes)
                break
            except StoppedError:
                steps += 1
        run(tmp_path / "stopped", block, **changes)
        assert record(tmp_path / "stopped") == expected
        shutil.rmtree(tmp_path / "stopped")
    assert steps >= 5


def test_a_retraining_under_way_does_not_train_again(tmp_path, monkeypatch):
    """The checkpoint of a retraining stands for the whole training before it."""
    from alloop.loop import fitting

    block, trained = {"name": "classifier_retraining", "share": 1.0}, []
    original = fitting._train
    monkeypatch.setattr(fitting, "_train", lambda *args: trained.append(1) or original(*args))
    save = fitting.Checkpoints.save

    def stopping(self, state, step):
        save(self, state, step)
        if self._after and step == 2:
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting.Checkpoints, "save", stopping)
        with pytest.raises(StoppedError):
            run(tmp_path / "stopped", block)
    assert trained == [1]
    with read_ledger(tmp_path / "stopped") as ledger:
        assert [step for *_, step in ledger.files(0) if step] == [6], (
            "four steps of the training, two of the retraining"
        )
    run(tmp_path / "stopped", block)
    assert trained == [1]
    run(tmp_path / "straight", block)
    assert record(tmp_path / "stopped") == record(tmp_path / "straight")


@pytest.mark.parametrize("name", CLASS_BALANCE)
def test_without_a_single_box_nothing_is_balanced_and_nothing_fails(tmp_path, name, monkeypatch):
    from alloop.loop import class_balancing
    from alloop.training.batches import TrainingBatches

    for function in ("adjust_logits", "retrain_classifier"):
        monkeypatch.setattr(class_balancing, function, lambda *_, **__: pytest.fail("there is nothing to balance"))
    monkeypatch.setattr(TrainingBatches, "class_boxes", lambda _self, classes: torch.zeros(classes).long().numpy())
    (round_,) = run(tmp_path, {"name": name})
    assert round_.metrics["ap"] is not None
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path).values())


def test_the_key_of_a_trained_model_knows_the_method_and_an_absent_one_changes_no_key():
    adjusted = {"name": "logit_adjustment"}
    blocks = [None, adjusted, {**adjusted, "tau": 2}, {"name": "equalization_loss"}]
    keys = [training_key(prepare(parse_config(tree(block)), TABLE), 0, {}) for block in blocks]
    assert "class_balance" not in keys[0]["training"]
    assert all(a != b for k, a in enumerate(keys) for b in keys[:k])


def test_every_round_and_strategy_works_with_sigmoids(tmp_path):
    for strategy in ("entropy", "margin", "influence"):
        changes = {"strategy.name": strategy, "loop.rounds": 2}
        rounds = run(tmp_path / strategy, {"name": "equalization_loss"}, **changes)
        assert [r.images for r in rounds] == [6, 10]
