"""What one experiment consists of, built from its config and checked before anything is trained."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch

from alloop import __version__
from alloop.config.reading import ExperimentConfig
from alloop.config.tables import ORACLES
from alloop.data.splits import Splits, load_splits
from alloop.detectors import TABLE as DETECTORS
from alloop.detectors.loss_prediction import WithLossPrediction
from alloop.detectors.protocol import Detector, PyramidDetector
from alloop.detectors.seeding import seeded
from alloop.errors import ConfigError
from alloop.oracles.oracle import OraclePlugin
from alloop.plugins import load_class, make_plugin, plugin_class
from alloop.query import Need
from alloop.randomness import RoundSeed
from alloop.strategy import Strategy, loss_prediction_of, make_strategy


@dataclass(frozen=True, slots=True)
class Experiment:
    """Config, data, strategy, and where to compute."""

    config: ExperimentConfig
    splits: Splits
    strategy: Strategy
    oracle: OraclePlugin
    device: torch.device
    threads: int

    def new_detector(self, round_: int) -> Detector:
        """A freshly initialised detector: every round starts from the configured weights, never from the last round."""
        build = load_class("detector", self.config.detector.name, DETECTORS)
        seed = RoundSeed(self.config.random_seed, round_)
        with seeded(seed.derive("init")):
            detector: Detector = build(self.config.detector, len(self.splits.train.dataset.class_names))
        settings = loss_prediction_of(self.strategy)
        if settings is None or not isinstance(detector, PyramidDetector):
            return detector
        with seeded(seed.derive("loss prediction")):
            return WithLossPrediction(detector, settings)


def prepare(
    config: ExperimentConfig, table: Mapping[str, str], recorded: Mapping[str, str] | None = None
) -> Experiment:
    """Read the data and check config, detector and strategy against each other.

    Args:
        config: the experiment.
        table: strategies by name.
        recorded: facts of a run that goes on; its device and threads are kept, since others would
            change the last bits.

    Raises:
        ConfigError: a strategy that needs what the detector lacks, an amount larger than the pool.
        DataError: data that cannot be used.
    """
    recorded = recorded or {}
    strategy = make_strategy(config.strategy.name, config.strategy.parameters, table)
    device = choose_device(recorded.get("device", config.training.device))
    threads = int(recorded.get("threads", config.training.threads or os.cpu_count() or 1))
    torch.set_num_threads(threads)
    splits = load_splits(config.data)
    experiment = Experiment(config, splits, strategy, oracle_of(config), device, threads)
    _check_needs(experiment)
    _check_training(experiment)
    _check_amounts(config, splits)
    return experiment


def oracle_of(config: ExperimentConfig) -> OraclePlugin:
    """Return the oracle that a config names."""
    name = config.oracle.name
    cls = plugin_class("oracle", name, ORACLES, "asks_people", "connect")
    parameters = {field.name: getattr(config.oracle, field.name) for field in fields(cls)}
    return cast("OraclePlugin", make_plugin("oracle", cls, name, parameters))


def detector_gives(config: ExperimentConfig) -> frozenset[Need]:
    """What the detector of a config can give a strategy."""
    detector: Detector = load_class("detector", config.detector.name, DETECTORS)(config.detector, 1)
    return detector.gives


def lacking(strategy: Strategy, gives: frozenset[Need]) -> list[str]:
    """What a strategy needs of the detector and does not get; reference and snapshots come from elsewhere."""
    return sorted(strategy.needs - gives - {Need.REFERENCE, Need.SNAPSHOTS})


def _check_needs(experiment: Experiment) -> None:
    """What the strategy asks of the detector, of the data and of the training."""
    config, strategy = experiment.config, experiment.strategy
    gives = experiment.new_detector(0).gives
    missing = lacking(strategy, gives)
    if missing:
        msg = (
            f"strategy.name: {config.strategy.name!r} needs {', '.join(missing)}, which detector "
            f"{config.detector.name!r} does not give; it gives {', '.join(sorted(gives))}"
        )
        raise ConfigError(msg)
    truths = experiment.splits.reference.dataset.annotations
    if Need.REFERENCE in strategy.needs and not any(truth.trainable.any() for truth in truths.values()):
        msg = (
            f"strategy.name: {config.strategy.name!r} needs labeled reference images, but the {len(truths)} images "
            "of the reference split have no box; give data.reference or data.test with annotations"
        )
        raise ConfigError(msg)
    if Need.LOSS_PREDICTIONS in strategy.needs and config.training.batch_size < 2:
        msg = (
            f"strategy.name: {config.strategy.name!r} learns from pairs of images; training.batch_size must be "
            f"2 or more, found {config.training.batch_size}"
        )
        raise ConfigError(msg)


def _check_training(experiment: Experiment) -> None:
    """Whether the detector can learn from a teacher in the way that is asked for."""
    semi, name = experiment.config.training.semi_supervised, experiment.config.detector.name
    if semi is None:
        return
    detector = experiment.new_detector(0)
    where = "training.semi_supervised"
    if not hasattr(detector, "cached_features"):
        msg = f"{where}: detector {name!r} cannot be asked for its detections without training mode (`cached_features`)"
        raise ConfigError(msg)
    if Need.MASKS in detector.gives:
        msg = f"{where}: a teacher gives no masks to learn from; take faster_rcnn instead of {name}"
        raise ConfigError(msg)
    if hasattr(detector, "pseudo_label_losses"):
        return
    if semi.style == "soft_teacher":
        reason = "style soft_teacher weighs and regresses the regions of a second stage"
        msg = f"{where}: {reason}, which {name} has not; take style: unbiased_teacher"
        raise ConfigError(msg)
    if semi.gradient_balance:
        reason = "gradient_balance needs a softmax over the classes and the background"
        msg = f"{where}: {reason}, and {name} has a sigmoid for each class; leave it out"
        raise ConfigError(msg)


def _check_amounts(config: ExperimentConfig, splits: Splits) -> None:
    pool, seed_set = len(splits.train.dataset.images), config.loop.seed_set
    if seed_set.unit == "images" and seed_set.number > pool:
        msg = f"loop.seed_set: {seed_set} are more than the {pool} images of the pool"
        raise ConfigError(msg)
    if config.detector.name == "mask_rcnn":
        truths = splits.train.dataset.annotations
        bare = [
            i for i, a in truths.items() for mask, ok in zip(a.masks, a.trainable, strict=True) if ok and mask is None
        ]
        if bare:
            msg = f"detector.name: mask_rcnn needs masks, but image {bare[0]} has boxes without a segmentation"
            raise ConfigError(msg)


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one.

    Raises:
        ConfigError: a device that this machine lacks.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    if not available.get(name, False):
        msg = f"training.device: {name} is not available on this machine; use cpu or auto"
        raise ConfigError(msg)
    return torch.device(name)


def _processor() -> str:
    """What the CPU is called and which of its instructions torch uses; `platform` does not know the name on Linux."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part"))]
    return f"{[*names, platform.processor()][0]}, {torch.backends.cpu.get_cpu_capability()}"


def environment(experiment: Experiment) -> dict[str, str]:
    """What the last bits of a result depend on."""
    return {
        "device": experiment.device.type,
        "threads": str(experiment.threads),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "numpy": version("numpy"),
        "alloop": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "hardware": torch.cuda.get_device_name() if experiment.device.type == "cuda" else _processor(),
        "command": " ".join(sys.argv),
    }


def training_key(experiment: Experiment, round_: int, labeled: Mapping[Any, str]) -> dict[str, Any]:
    """Everything that determines the model of a round and its figures."""
    config = experiment.config
    facts = environment(experiment)
    same = ("device", "threads", "torch", "torchvision", "numpy", "alloop", "machine", "hardware")
    return {
        "round": round_,
        "random_seed": config.random_seed,
        "detector": config.detector.model_dump(mode="json"),
        "training": config.training.model_dump(mode="json", exclude={"checkpoint_seconds", "cache_gib"}),
        "data": experiment.splits.fingerprint(),
        "loss_prediction": str(loss_prediction_of(experiment.strategy)),
        "labeled": sorted((int(i), sha256) for i, sha256 in labeled.items()),
        "environment": {name: facts[name] for name in same},
    }
