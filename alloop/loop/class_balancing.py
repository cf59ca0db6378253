"""Where `training.class_balance` acts in a round: when the network is built, when it is trained, and afterwards."""

from collections.abc import Callable

import torch

from alloop.config.class_balance import ClassifierRetraining, EqualizationLoss, LogitAdjustment, Method
from alloop.config.training import TrainingConfig
from alloop.detectors.protocol import Network
from alloop.detectors.region_protocol import BalancedDetector
from alloop.errors import ConfigError
from alloop.loop.round_files import Checkpoints
from alloop.randomness import RoundSeed
from alloop.training.batches import TrainingBatches
from alloop.training.class_balance import equalization_loss
from alloop.training.class_balance.classifier_retraining import (
    ClassBalancedBatches,
    retrain_classifier,
    retraining_seed,
    retraining_steps,
)
from alloop.training.class_balance.logit_adjustment import adjust_logits
from alloop.training.objective import TrainingObjective


def balance_method(config: TrainingConfig) -> Method | None:
    """Return the configured method with its parameters, None where there is none."""
    return None if config.class_balance is None else config.class_balance.method


def reads_sigmoids(config: TrainingConfig) -> bool:
    """Whether the configured method trains the logits of regions as one sigmoid each."""
    return isinstance(balance_method(config), EqualizationLoss)


def prepare_logits(network: Network, config: TrainingConfig) -> None:
    """Let a network that was just built read its logits in the way in which the configured method trains them."""
    if reads_sigmoids(config):
        balanced(network).read_logits_as_sigmoids()


def balanced(network: Network) -> BalancedDetector:
    """Return the network of a plug-in that declares `balances_classes`.

    Raises:
        ConfigError: the network is no `BalancedDetector`.
    """
    if not isinstance(network, BalancedDetector):
        found = type(network).__name__
        msg = f"training.class_balance: expected a BalancedDetector, as the plug-in declares, found {found}"
        raise ConfigError(msg)
    return network


def balanced_objective(
    objective: TrainingObjective, network: Network, config: TrainingConfig, classes: int, device: torch.device
) -> TrainingObjective:
    """Return the objective of a training, with another loss of regions where the configured method has one."""
    method = balance_method(config)
    if not isinstance(method, EqualizationLoss):
        return objective
    loss = equalization_loss.EqualizationLoss(classes, gamma=method.gamma, mu=method.mu, alpha=method.alpha)
    return equalization_loss.EqualizedObjective(objective, balanced(network), loss.to(device))


def retraining_begun(config: TrainingConfig, checkpoints: Checkpoints, steps: int) -> bool:
    """Whether a retraining of the classifier is under way, so that the training before it is finished."""
    return isinstance(balance_method(config), ClassifierRetraining) and checkpoints.following(steps).begun


def balance_afterwards(
    network: Network,
    batches: TrainingBatches,
    config: TrainingConfig,
    *,
    classes: int,
    steps: int,
    seed: RoundSeed,
    device: torch.device,
    checkpoints: Checkpoints,
    class_balanced: Callable[[RoundSeed], ClassBalancedBatches],
    progress: Callable[[str, int, int, str], None],
) -> None:
    """Do to a trained network, in place, what the configured method does after the training.

    Without a single box among the labeled images there is nothing to balance, and the network stays as it is.

    Args:
        network: trained, or about to go on with a retraining that `checkpoints` know.
        batches: of the training.
        config: of the training.
        classes: number of classes.
        steps: of the training.
        seed: of the round.
        device: to train on.
        checkpoints: of the training.
        class_balanced: makes the batches of a retraining under a seed.
        progress: called with the name of the work, the finished steps, their total, and a note.

    Raises:
        TrainingError: a loss of the retraining that is not finite.
    """
    method = balance_method(config)
    if method is None or not (boxes := batches.class_boxes(classes)).any():
        return
    if isinstance(method, LogitAdjustment):
        adjust_logits(balanced(network), boxes, method.tau)
    elif isinstance(method, ClassifierRetraining):
        total = retraining_steps(method.share, steps)
        task = f"round {seed.round}: retraining the classifier"
        retrain_classifier(
            balanced(network),
            class_balanced(retraining_seed(seed)),
            config,
            steps=total,
            seed=retraining_seed(seed),
            device=device,
            store=checkpoints.following(steps),
            progress=lambda step, loss: progress(task, step, total, f"loss {loss:.3f}"),
        )
