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
from alloop.detectors.loss_prediction import attach_module
from alloop.detectors.protocol import Network, PyramidDetector
from alloop.detectors.seeding import seeded
from alloop.errors import ConfigError
from alloop.loop.checks import check_config, check_data
from alloop.loop.class_balancing import prepare_logits
from alloop.loop.parts import Parts, read_parts
from alloop.randomness import RoundSeed
from alloop.strategy import loss_prediction_of


@dataclass(frozen=True, slots=True)
class Experiment(Parts):
    """The parts of an experiment, and the device and number of threads to compute with."""

    device: torch.device
    threads: int

    def new_detector(self, round_: int) -> Network:
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
    check_config(config, table)
    recorded = recorded or {}
    device = choose_device(recorded.get("device", config.training.device))
    threads = int(recorded.get("threads", config.training.threads or os.cpu_count() or 1))
    torch.set_num_threads(threads)
    parts = read_parts(config, table, kept)
    check_data(parts)
    return Experiment(parts.config, parts.splits, parts.detector, parts.strategy, parts.oracle, device, threads)


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
