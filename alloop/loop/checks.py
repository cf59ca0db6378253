"""What is checked about an experiment before anything is trained. Torch is not loaded, so that an error comes at once.

`check_config` looks at the config alone, and `check_data` at the data as well.
"""

from collections.abc import Mapping

from alloop.config.reading import ExperimentConfig
from alloop.config.training import TrainingConfig
from alloop.detectors.plugin import BalancedPlugin, DetectorPlugin, PseudoLabelPlugin
from alloop.errors import ConfigError
from alloop.loop.parts import Parts, detector_gives, lacking, make_detector, make_oracle
from alloop.query import Need
from alloop.strategy import Strategy, depends_on_count, make_strategy
from alloop.tasks.table import task_of


def check_config(config: ExperimentConfig, table: Mapping[str, str]) -> None:
    """Check the plug-ins that a config names, and whether they fit each other.

    Args:
        config: the experiment.
        table: strategies by name.

    Raises:
        ConfigError: an unknown name or parameter; a strategy, a rule or a training that needs what the detector does
            not give; a seed set that nobody can pick as wanted.
    """
    make_oracle(config)
    detector = make_detector(config)
    _check_task(config, detector)
    _check_needs(config, make_strategy(config.strategy.name, config.strategy.parameters, table), detector)
    _check_semi_supervised(config, detector)
    refuse_unbalanced(config.training, detector, config.detector.name)
    first_strategy(config, table)


def check_data(parts: Parts) -> None:
    """Check what a config asks of its data.

    Raises:
        ConfigError: a seed set larger than the pool; reference images without a box, or boxes without a mask, that the
            strategy or the detector needs.
    """
    _check_reference(parts)
    _check_seed_set(parts)
    parts.task.check(parts.splits.train, parts.detector.gives, parts.config.detector.name)


def first_strategy(config: ExperimentConfig, table: Mapping[str, str]) -> Strategy | None:
    """Return the strategy that picks the seed set; None for random images.

    Raises:
        ConfigError: an unknown strategy, one that needs more than embeddings, embeddings that nobody gives or uses, or
            two ways to pick the seed set.
    """
    name = config.loop.first_batch if config.loop.first_batch != "random" else config.oracle.first_batch
    if name == "random":
        if config.loop.embeddings is not None:
            msg = "loop.embeddings: the seed set is random and does not use them; set loop.first_batch to max_herding"
            raise ConfigError(msg)
        return None
    if config.loop.seed_images is not None:
        msg = f"loop.first_batch: {name!r} would pick the seed set, and loop.seed_images names it; remove one of them"
        raise ConfigError(msg)
    strategy = make_strategy(name, {}, table)
    needed = lacking(strategy, frozenset({Need.EMBEDDINGS}))
    if needed:
        msg = (
            f"loop.first_batch: {name!r} needs {', '.join(needed)}, and nothing is trained yet; "
            "try max_herding or k_center"
        )
        raise ConfigError(msg)
    if config.loop.embeddings is None and (config.detector.is_external or lacking(strategy, detector_gives(config))):
        msg = (
            f"loop.first_batch: {name!r} needs embeddings, and detector {config.detector.name!r} gives none before it "
            "is trained; name a file of them in loop.embeddings"
        )
        raise ConfigError(msg)
    if depends_on_count(strategy):
        msg = f"loop.first_batch: {name!r} ranks otherwise for another number of images; try max_herding or k_center"
        raise ConfigError(msg)
    return strategy


def _check_task(config: ExperimentConfig, detector: DetectorPlugin) -> None:
    missing = sorted(task_of(config).needs - detector.gives)
    if missing:
        msg = (
            f"detector.name: {config.detector.name!r} gives no {' and no '.join(missing)}, which task {config.task} "
            "needs; take another one, or set the key task"
        )
        raise ConfigError(msg)


def _check_needs(config: ExperimentConfig, strategy: Strategy, detector: DetectorPlugin) -> None:
    """Check what the strategy and the rules of purchases need of the detector and of the training."""
    missing = lacking(strategy, detector.gives)
    if missing:
        msg = (
            f"strategy.name: {config.strategy.name!r} needs {', '.join(missing)}, which detector "
            f"{config.detector.name!r} does not give; it gives {', '.join(sorted(detector.gives))}"
        )
        raise ConfigError(msg)
    distance = config.loop.min_distance
    if distance is not None and distance.unit == "cosine" and Need.EMBEDDINGS not in detector.gives:
        msg = f"loop.min_distance: detector {config.detector.name!r} gives no embeddings; give a distance in bits"
        raise ConfigError(msg)
    if Need.LOSS_PREDICTIONS in strategy.needs and config.training.batch_size < 2:
        msg = (
            f"strategy.name: {config.strategy.name!r} learns from pairs of images; training.batch_size must be "
            f"2 or more, found {config.training.batch_size}"
        )
        raise ConfigError(msg)


def _check_semi_supervised(config: ExperimentConfig, detector: DetectorPlugin) -> None:
    """Check that the detector can be trained on pseudo-labels in the configured style."""
    semi, name = config.training.semi_supervised, config.detector.name
    if semi is None:
        return
    key = "training.semi_supervised"
    if Need.LAST_LAYERS not in detector.gives:
        msg = f"{key}: detector {name!r} does not give {Need.LAST_LAYERS}, which the teacher needs; leave it out"
        raise ConfigError(msg)
    if Need.MASKS in detector.gives:
        msg = f"{key}: a teacher gives no masks to learn from; take faster_rcnn instead of {name}"
        raise ConfigError(msg)
    if not isinstance(detector, PseudoLabelPlugin) or not detector.classification_terms:
        msg = (
            f"{key}: detector {name!r} declares no `classification_terms`, the names of the loss terms that are "
            "trained on pseudo-labels; declare them in its class, or leave semi_supervised out"
        )
        raise ConfigError(msg)
    if detector.classifies_regions:
        return
    if semi.style == "soft_teacher":
        reason = "style soft_teacher weighs and regresses the regions of a second stage"
        msg = f"{key}: {reason}, which {name} has not; take style: unbiased_teacher"
        raise ConfigError(msg)
    if semi.gradient_balance:
        reason = "gradient_balance needs a softmax over the classes and the background"
        msg = f"{key}: {reason}, and {name} has a sigmoid for each class; leave it out"
        raise ConfigError(msg)


def refuse_unbalanced(config: TrainingConfig, plugin: DetectorPlugin, name: str) -> None:
    """Refuse a method of class balance for a detector that it makes no sense for.

    Args:
        config: of the training.
        plugin: the detector.
        name: what the config calls it.

    Raises:
        ConfigError: with the reason.
    """
    block = config.class_balance
    if block is None or (isinstance(plugin, BalancedPlugin) and plugin.balances_classes):
        return
    msg = (
        f"training.class_balance: {block.name} needs a two-stage detector, which declares `balances_classes`, and "
        f"{name!r} does not: {block.method.one_stage}. Take faster_rcnn, or leave class_balance out"
    )
    raise ConfigError(msg)


def _check_reference(parts: Parts) -> None:
    config, strategy = parts.config, parts.strategy
    reference = parts.splits.reference
    if Need.REFERENCE in strategy.needs and not parts.task.has_labels(reference):
        msg = (
            f"strategy.name: {config.strategy.name!r} needs labeled reference images, but the "
            f"{len(reference.dataset.images)} images of the reference split have no label; give data.reference or "
            "data.test with annotations"
        )
        raise ConfigError(msg)


def _check_seed_set(parts: Parts) -> None:
    pool, seed_set = len(parts.splits.train.dataset.images), parts.config.loop.seed_set
    if seed_set.unit == "images" and seed_set.number > pool:
        msg = f"loop.seed_set: {seed_set} are more than the {pool} images of the pool"
        raise ConfigError(msg)
