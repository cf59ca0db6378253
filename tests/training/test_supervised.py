"""Training: going on equals never having stopped, and a loss that is not finite never trains."""

import pytest
import torch

from alloop.errors import TrainingError
from alloop.training.losses import LossReader
from alloop.training.supervised import SupervisedObjective, _update, make_optimizer
from tests.support.detectors import chosen
from tests.support.training import MemoryStore, batches_of, experiment, trained_weights


def run_training(made, store, steps, labeled=None):
    labeled = labeled or dict(list(made.splits.train.dataset.annotations.items())[:10])
    detector = made.new_detector(0)
    batches = batches_of(made, labeled, masks="mask" in made.config.detector.name)
    return trained_weights(made, detector, SupervisedObjective(detector, batches), store, steps)


@pytest.mark.parametrize("name", ["fcos", "fcos_isal", "faster_rcnn", "retinanet", "mask_rcnn"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_going_on_from_any_checkpoint_is_bit_identical(name, optimizer):
    made = experiment(
        **{
            **chosen(name),
            "training.optimizer": optimizer,
            "training.checkpoint_seconds": 0,
            "training.batch_size": 3,
        }
    )
    store = MemoryStore()
    straight = run_training(made, store, 5)
    assert [step for step, _ in store.saved] == [1, 2, 3, 4]
    for _, state in store.saved:
        resumed = run_training(made, MemoryStore(state), 5)
        assert all(torch.equal(straight[key], resumed[key]) for key in straight)


def test_states_kept_along_a_training_are_the_same_after_a_stop():
    made = experiment(**{"training.checkpoint_seconds": 0, "training.batch_size": 3})
    straight = MemoryStore(snapshot_steps=(2, 4))
    run_training(made, straight, 5)
    assert sorted(straight.kept) == [2, 4]
    assert straight.kept[2] != straight.kept[4]
    for done, state in straight.saved:
        resumed = MemoryStore(state, snapshot_steps=(2, 4))
        run_training(made, resumed, 5)
        assert resumed.kept == {step: straight.kept[step] for step in (2, 4) if step > done}


def test_another_seed_or_round_trains_another_model():
    made = experiment()
    first = run_training(made, MemoryStore(), 2)
    again = run_training(made, MemoryStore(), 2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    other = run_training(experiment(random_seed=1), MemoryStore(), 2)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_training_does_not_move_the_global_generator():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    run_training(experiment(**{"detector.name": "faster_rcnn"}), MemoryStore(), 2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_loss_that_is_not_finite_stops_with_the_images_of_the_batch():
    made = experiment(
        **{"training.lr": 1e30, "training.clip_norm": None, "training.optimizer": "sgd", "training.iterations": 50}
    )
    labeled = dict(list(made.splits.train.dataset.annotations.items())[:5])
    with pytest.raises(TrainingError, match="not finite") as error:
        run_training(made, MemoryStore(), 50, labeled)
    assert any(str(image_id) in str(error.value) for image_id in labeled)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_fused_step_is_the_step_of_the_formula(optimizer, layout):
    """Fused steps take weights, gradients and moments for flat arrays of one layout."""
    made = experiment(**{"training.optimizer": optimizer, "training.lr": 0.01, "training.weight_decay": 0.1})
    results = []
    for fused in (True, False):
        module = made.new_detector(0).module.to(memory_format=layout).train()
        steps = make_optimizer(module, made.config.training)
        for group in steps.param_groups:
            group["fused"] = fused
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            steps.zero_grad(set_to_none=True)
            images = torch.rand(2, 3, 64, 64, generator=generator)
            sum(level.square().mean() for level in module.backbone(images).values()).backward()
            steps.step()
        results.append(module.state_dict())
    for name, weight in results[0].items():
        if weight.is_floating_point():
            assert torch.allclose(weight, results[1][name], rtol=1e-3, atol=1e-4), name


def test_biases_may_learn_faster_and_without_decay():
    """As in mmdetection's FCOS; plain SGD moves each weight by lr (gradient + decay weight)."""
    plain = {"training.optimizer": "sgd", "training.momentum": 0.0, "training.lr": 0.01, "training.weight_decay": 0.1}
    made = experiment(**plain, **{"training.bias_lr_factor": 2.0, "training.bias_decay": False})
    module = made.new_detector(0).module.train()
    steps = make_optimizer(module, made.config.training)
    for group in steps.param_groups:
        group["lr"] = group["factor"] * 0.01
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    for value in module.parameters():
        value.grad = torch.full_like(value, 0.5)
    steps.step()
    for name, value in module.named_parameters():
        if value.requires_grad:
            bias = name.endswith(".bias")
            step = 0.02 * 0.5 if bias else 0.01 * (0.5 + 0.1 * before[name])
            torch.testing.assert_close(value.detach(), before[name] - step, rtol=1e-5, atol=1e-7)


def test_the_gradients_of_biases_and_weights_are_clipped_together():
    made = experiment(**{"training.bias_lr_factor": 2.0, "training.clip_norm": 1.0})
    module = made.new_detector(0).module
    steps = make_optimizer(module, made.config.training)
    loss = sum((5 * value).sum() for value in module.parameters() if value.requires_grad)
    _update(steps, loss, 1.0)
    norm = torch.sqrt(sum(value.grad.square().sum() for value in module.parameters() if value.grad is not None))
    assert float(norm) == pytest.approx(1.0, rel=1e-4)


def late_add(self, loss):
    """Read one step late, as on a GPU."""
    self._pending = loss, torch.stack([term.detach().sum() for term in loss.terms.values()]), None


def test_a_loss_that_is_read_late_is_never_stored(monkeypatch):
    """On a GPU losses are read one step late; a checkpoint or a snapshot must not hold what a bad one made."""
    monkeypatch.setattr(LossReader, "add", late_add)
    changes = {"training.lr": 1e30, "training.clip_norm": None, "training.optimizer": "sgd"}
    made = experiment(**changes, **{"training.iterations": 50, "training.checkpoint_seconds": 0})
    labeled = dict(list(made.splits.train.dataset.annotations.items())[:5])
    store = MemoryStore(snapshot_steps=tuple(range(1, 50)))
    with pytest.raises(TrainingError, match="not finite") as error:
        run_training(made, store, 50, labeled)
    bad = int(str(error.value).split("at step ")[1].split()[0])
    assert max(step for step, _ in store.saved) <= bad
    assert max(store.kept) <= bad


def test_late_and_prompt_reading_train_the_same_weights(monkeypatch):
    made = experiment(**{"training.checkpoint_seconds": 0})
    prompt = run_training(made, MemoryStore(snapshot_steps=(2,)), 4)
    monkeypatch.setattr(LossReader, "add", late_add)
    late = run_training(made, MemoryStore(snapshot_steps=(2,)), 4)
    assert all(torch.equal(prompt[key], late[key]) for key in prompt)
