"""The loss prediction module beside a detector: its loss, what it learns, and that the detector stays the same."""

import pytest
import torch
from scipy.stats import spearmanr

from alloop.config import parse_config
from alloop.detectors.loss_prediction import LossPredictionModule, attach_module, ranking_loss, training_losses
from alloop.detectors.seeding import seeded
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.strategy import LossPrediction
from strategies import TABLE
from tests.support import small_tree
from tests.support.detectors import make, scene


def test_ranking_loss_by_hand():
    predicted = torch.tensor([1.0, 0.2, 0.5, 0.7])
    losses = torch.tensor([3.0, 1.0, 1.0, 2.0])
    # pairs (0, 3): s = +1, 0.3 apart, loss 0.7; (1, 2): a tie counts as s = -1, -0.3 apart, loss 0.7
    assert ranking_loss(predicted, losses, 1.0) == pytest.approx([0.7 / 4] * 4)
    assert float(ranking_loss(predicted, losses, 1.0).sum()) == pytest.approx((0.7 + 0.7) / 2)
    assert float(ranking_loss(10 * predicted, losses, 1.0).sum()) == 0
    odd = ranking_loss(torch.tensor([0.0, 9.0, 0.5]), torch.tensor([1.0, 5.0, 0.0]), 1.0)
    assert odd.tolist() == [0.75, 0.0, 0.75]
    assert ranking_loss(torch.ones(1), torch.ones(1), 1.0).tolist() == [0.0]


def test_the_module_learns_to_order_losses():
    torch.manual_seed(0)
    module = LossPredictionModule([8] * 2, LossPrediction(hidden=16))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)

    def draw(n):
        levels = [torch.rand(n, 8, 4, 4) + torch.rand(n, 8, 1, 1), torch.rand(n, 8, 2, 2)]
        return levels, (levels[0].mean(dim=(2, 3)) @ torch.linspace(-1, 1, 8)).exp()

    for _ in range(300):
        levels, losses = draw(16)
        optimizer.zero_grad()
        ranking_loss(module(levels), losses, 1.0).sum().backward()
        optimizer.step()
    levels, losses = draw(200)
    assert spearmanr(module(levels).detach(), losses)[0] > 0.9


@pytest.mark.parametrize("name", ["fcos", "fcos_isal", "retinanet", "faster_rcnn"])
def test_detached_the_module_learns_alone(name):
    detector, (images, targets) = make(name), scene()
    plain = {k: v.clone() for k, v in detector.module.state_dict().items()}
    with seeded(1):
        attach_module(detector, LossPrediction())
    detector.module.train()
    with seeded(2):
        terms = training_losses(detector, images, targets)
    with seeded(2):
        own = detector.losses(images, targets)
    assert terms.keys() == {*own, "loss_prediction"}
    assert all(torch.equal(terms[key], own[key]) for key in own)
    terms["loss_prediction"].sum().backward()
    taught = {key for key, p in detector.module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert taught
    assert all(key.startswith("loss_prediction.") for key in taught)
    assert plain.keys() == {k for k in detector.module.state_dict() if not k.startswith("loss_prediction.")}
    attached = make(name)
    attach_module(attached, LossPrediction(detach=False))
    attached.module.train()
    with seeded(2):
        training_losses(attached, images, targets)["loss_prediction"].sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in attached.module.backbone.parameters())


@pytest.mark.parametrize(("share", "reaches"), [(0.0, True), (0.59, True), (0.6, False), (1.0, False)])
def test_the_gradient_reaches_the_detector_until_a_share_of_the_training(share, reaches):
    """ISAL's rule on CIFAR: features are detached from epoch 120 of 200 on."""
    detector, (images, targets) = make("fcos"), scene()
    attach_module(detector, LossPrediction(detach_from=0.6))
    detector.module.train()
    training_losses(detector, images, targets, share)["loss_prediction"].sum().backward()
    taught = [p for p in detector.module.backbone.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert bool(taught) == reaches


def facts_and_rounds(folder):
    with read_ledger(folder) as ledger:
        return ledger.facts(), ledger.rounds()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_detector_is_the_same_with_and_without_the_module(tmp_path, optimizer):
    changes = {"training.optimizer": optimizer, "training.clip_norm": 0.1, "loop.rounds": 1, "training.ema": 0.9}
    for name in ("random", "learning_loss"):
        run_experiment(parse_config(small_tree(**changes, **{"strategy.name": name})), tmp_path / name, TABLE)
    from safetensors.torch import load_file

    plain, beside = (
        load_file(tmp_path / name / "models" / "round_000.safetensors") for name in ("random", "learning_loss")
    )
    assert all(torch.equal(plain[key], beside[key]) for key in plain)
    extra = beside.keys() - plain.keys()
    assert extra
    assert all(key.startswith("loss_prediction.") for key in extra)


def test_learning_loss_goes_on_where_it_stopped(tmp_path, monkeypatch):
    config = parse_config(small_tree(**{"strategy.name": "learning_loss", "training.checkpoint_seconds": 0}))
    straight = run_experiment(config, tmp_path / "straight", TABLE)
    steps = []

    class StoppedError(Exception):
        pass

    original = LossPredictionModule.loss

    def loss(self, levels, losses, share=1.0):
        steps.append(0)
        if len(steps) in (3, 6):
            raise StoppedError
        return original(self, levels, losses, share)

    monkeypatch.setattr(LossPredictionModule, "loss", loss)
    for _ in range(2):
        with pytest.raises(StoppedError):
            run_experiment(config, tmp_path / "stopped", TABLE)
    resumed = run_experiment(config, tmp_path / "stopped", TABLE)
    assert [r.metrics for r in resumed] == [r.metrics for r in straight]
    assert [r.boxes for r in resumed] == [r.boxes for r in straight]
    assert len(steps) < 3 * 4 + 4, "checkpoints were not used"
    for number in range(3):
        name = f"models/round_{number:03d}.safetensors"
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()
