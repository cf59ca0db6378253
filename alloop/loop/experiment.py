"""What one experiment consists of, built from its config and checked before anything is trained."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from alloop.config.reading import ExperimentConfig
from alloop.config.training import CHANGES_NO_RESULT
from alloop.data.cache_folder import CacheFolder
from alloop.data.images import DECODER
from alloop.data.splits import Splits, load_splits
from alloop.detectors.loss_prediction import attach_module
from alloop.detectors.plugin import DetectorPlugin, PseudoLabelPlugin
from alloop.detectors.protocol import Detector, PyramidDetector
from alloop.detectors.seeding import seeded
from alloop.errors import ConfigError
from alloop.loop.class_balancing import prepare_logits, refuse_unbalanced
from alloop.oracles.oracle import OraclePlugin
from alloop.query import Need
from alloop.randomness import RoundSeed
from alloop.strategy import Strategy, loss_prediction_of, make_strategy


@dataclass(frozen=True, slots=True)
class Experiment:
    """Config, data, detector, strategy, and the device and number of threads to compute with."""

    config: ExperimentConfig
    splits: Splits
    detector: DetectorPlugin
    strategy: Strategy
    oracle: OraclePlugin
    device: torch.device
    threads: int

    def new_detector(self, round_: int) -> Detector:
        """Build a network with the weights that the config names; see `training.start` for those of the last round."""
        seed = RoundSeed(self.config.random_seed, round_)
        with seeded(seed.derive("init")):
            network = self.detector.build(len(self.splits.train.dataset.class_names))
        prepare_logits(network, self.config.training)
        settings = loss_prediction_of(self.strategy)
        if settings is not None and isinstance(network, PyramidDetector):
            with seeded(seed.derive("loss prediction")):
                attach_module(network, settings)
        return network


def prepare(
    config: ExperimentConfig,
    table: Mapping[str, str],
    recorded: Mapping[str, str] | None = None,
    kept: CacheFolder | None = None,
) -> Experiment:
    """Read the data and check config, detector and strategy against each other; nothing is built or trained.

    Args:
        config: the experiment.
        table: strategies by name.
        recorded: facts of a run that goes on; its device and threads are kept, since others would
            change the last bits.
        kept: what can be computed again, and other runs of a study may have computed.

    Raises:
        ConfigError: a strategy that needs what the detector does not give, an amount larger than the pool.
        DataError: data that cannot be used.
    """
    recorded = recorded or {}
    strategy = make_strategy(config.strategy.name, config.strategy.parameters, table)
    device = choose_device(recorded.get("device", config.training.device))
    threads = int(recorded.get("threads", config.training.threads or os.cpu_count() or 1))
    torch.set_num_threads(threads)
    splits = load_splits(config.data, for_people=config.oracle.asks_people, kept=kept)
    experiment = Experiment(config, splits, make_detector(config), strategy, make_oracle(config), device, threads)
    _check_needs(experiment)
    _check_semi_supervised(experiment)
    refuse_unbalanced(config.training, experiment.detector, config.detector.name)
    _check_seed_set(experiment)
    _check_masks(experiment)
    return experiment


def make_detector(config: ExperimentConfig) -> DetectorPlugin:
    """Make the detector plug-in that a config names, without building its network.

    Raises:
        ConfigError: the named class is no detector plug-in.
    """
    plugin = config.detector.make()
    if not isinstance(plugin, DetectorPlugin):
        msg = f"detector.name: {config.detector.name!r} is no detector: `alloop.detectors.plugin` says what one has"
        raise ConfigError(msg)
    return plugin


def make_oracle(config: ExperimentConfig) -> OraclePlugin:
    """Make the oracle plug-in that a config names.

    Raises:
        ConfigError: the named class is no oracle plug-in.
    """
    plugin = config.oracle.make()
    if not isinstance(plugin, OraclePlugin):
        msg = f"oracle.name: {config.oracle.name!r} is no oracle: `alloop.oracles.oracle` says what one has"
        raise ConfigError(msg)
    return plugin


def detector_gives(config: ExperimentConfig) -> frozenset[Need]:
    """Return the needs that the detector of a config serves."""
    return make_detector(config).gives


def lacking(strategy: Strategy, gives: frozenset[Need]) -> list[str]:
    """Return the needs of a strategy that a detector does not serve.

    Reference images come from the data and snapshots from the training, so neither is among them.
    """
    return sorted(strategy.needs - gives - {Need.REFERENCE, Need.SNAPSHOTS})


def _check_needs(experiment: Experiment) -> None:
    """Check what the strategy needs of the detector, of the data and of the training."""
    config, strategy = experiment.config, experiment.strategy
    missing = lacking(strategy, experiment.detector.gives)
    if missing:
        msg = (
            f"strategy.name: {config.strategy.name!r} needs {', '.join(missing)}, which detector "
            f"{config.detector.name!r} does not give; it gives {', '.join(sorted(experiment.detector.gives))}"
        )
        raise ConfigError(msg)
    distance = config.loop.min_distance
    if distance is not None and distance.unit == "cosine" and Need.EMBEDDINGS not in experiment.detector.gives:
        msg = f"loop.min_distance: detector {config.detector.name!r} gives no embeddings; give a distance in bits"
        raise ConfigError(msg)
    truths = experiment.splits.reference.dataset.annotations
    if Need.REFERENCE in strategy.needs and not truths.trainable.any():
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


def _check_semi_supervised(experiment: Experiment) -> None:
    """Check that the detector can be trained on pseudo-labels in the configured style."""
    semi, name = experiment.config.training.semi_supervised, experiment.config.detector.name
    if semi is None:
        return
    detector, key = experiment.detector, "training.semi_supervised"
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


def _check_seed_set(experiment: Experiment) -> None:
    pool, seed_set = len(experiment.splits.train.dataset.images), experiment.config.loop.seed_set
    if seed_set.unit == "images" and seed_set.number > pool:
        msg = f"loop.seed_set: {seed_set} are more than the {pool} images of the pool"
        raise ConfigError(msg)


def _check_masks(experiment: Experiment) -> None:
    """Check that every trainable box of the pool has a mask if the detector learns masks."""
    if Need.MASKS not in experiment.detector.gives:
        return
    image_id = experiment.splits.train.dataset.annotations.lacking_mask()
    if image_id is not None:
        name = experiment.config.detector.name
        msg = f"detector.name: {name} needs masks, but image {image_id} has boxes without a segmentation"
        raise ConfigError(msg)


def choose_device(name: str) -> torch.device:
    """Return the device of this name; `auto` is CUDA where there is one, else the CPU.

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
    """Return the name of the CPU, which `platform` does not know on Linux, and the instructions that torch uses."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "CPU part"))]
    return f"{[*names, platform.processor()][0]}, {torch.backends.cpu.get_cpu_capability()}"


def environment(experiment: Experiment) -> dict[str, str]:
    """Return what the last bits of a result depend on."""
    return {
        "device": experiment.device.type,
        "threads": str(experiment.threads),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "numpy": version("numpy"),
        "decoder": DECODER,
        "alloop": version("alloop"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "hardware": torch.cuda.get_device_name() if experiment.device.type == "cuda" else _processor(),
        "command": " ".join(sys.argv),
    }


def training_key(
    experiment: Experiment,
    round_: int,
    labeled: Mapping[Any, str],
    contents: Mapping[str, str] | None = None,
    starts_from: str | None = None,
) -> dict[str, Any]:
    """Return everything that determines the model of a round and its figures.

    Args:
        experiment: the experiment.
        round_: the round.
        labeled: the hash of each labeled image's annotations.
        contents: hashes of the images and of what lies behind paths, by key, which then replace the paths; None for
            a run of an older version, which did not record them.
        starts_from: the hash of the weights that the training starts from; None where they are those of the detector.
    """
    config = experiment.config
    facts = environment(experiment)
    same = ("device", "threads", "torch", "torchvision", "numpy", "decoder", "alloop", "machine", "hardware")
    key = {
        "round": round_,
        "random_seed": config.random_seed,
        "detector": config.detector.with_siblings(),
        "training": config.training.model_dump(mode="json", exclude={*CHANGES_NO_RESULT, *config.training.absent}),
        "data": experiment.splits.fingerprint(),
        "loss_prediction": str(loss_prediction_of(experiment.strategy)),
        "labeled": sorted((int(i), sha256) for i, sha256 in labeled.items()),
        "environment": {name: facts[name] for name in same},
    }
    key |= {"starts_from": starts_from} if starts_from is not None else {}
    if contents is None:
        return key
    detector = {k: contents.get(f"detector.{k}", value) for k, value in config.detector.with_siblings().items()}
    unkept = set() if config.evaluation.keep_detections else {"keep_detections"}  # as the keys before it existed
    evaluation = config.evaluation.model_dump(mode="json", exclude=unkept)
    return {**key, "detector": detector, "contents": dict(contents), "evaluation": evaluation}
