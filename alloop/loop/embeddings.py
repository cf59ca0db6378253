"""Embeddings of images outside a run, by the detector that a config or a run folder names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from alloop.config import ExperimentConfig, load_config, parse_config
from alloop.data.images import ImageSource
from alloop.data.pixels import PixelCache
from alloop.detectors.fitted import FittedTorchDetector
from alloop.detectors.loss_prediction import attach_module
from alloop.detectors.protocol import Network, PyramidDetector
from alloop.detectors.seeding import seeded
from alloop.errors import ConfigError
from alloop.ledger.store import read_ledger
from alloop.loop.experiment import choose_device
from alloop.loop.parts import make_detector
from alloop.loop.round_files import trained_weights
from alloop.progress import Progress
from alloop.query import Need
from alloop.randomness import RoundSeed
from alloop.strategy import loss_prediction_of, make_strategy
from alloop.training.weights import load_weights_of
from alloop.values import ImageId


def embedder(
    path: Path, table: Mapping[str, str], progress: Progress
) -> Callable[[ImageSource, Sequence[ImageId], str], np.ndarray]:
    """Return a function that embeds images: `embed(source, image_ids, name)` is an array of n by d.

    Args:
        path: a config, whose detector has the weights that training starts from; or a run folder, whose detector is
            that of its last finished round.
        table: strategies by name; some of them add to the network that a run trains.
        progress: where to report progress.

    Raises:
        ConfigError: the detector gives no embeddings, or the run has no finished round.
    """
    config, detector = _of_run(path, table) if path.is_dir() else _of_config(path)
    plugin, device = make_detector(config), choose_device(config.training.device)
    detector.module.to(device)

    def embed(source: ImageSource, image_ids: Sequence[ImageId], name: str) -> np.ndarray:
        cache = PixelCache(source, plugin.short_side, plugin.long_side)
        view = FittedTorchDetector(
            detector,
            source,
            cache,
            (),
            gives=plugin.gives,
            batch_size=config.training.batch_size,
            device=device,
            progress=lambda task, done, total: progress.step(f"{task} ({name})", done, total),
        )
        return view.embeddings(image_ids)

    return embed


def _of_config(path: Path) -> tuple[ExperimentConfig, Network]:
    config = load_config(path)
    return config, _built(config, 1, str(path))  # an embedding does not depend on the number of classes


def _of_run(folder: Path, table: Mapping[str, str]) -> tuple[ExperimentConfig, Network]:
    with read_ledger(folder) as ledger:
        facts, rounds = ledger.facts(), ledger.rounds()
        if facts is None or not rounds:
            msg = f"{folder}: expected a run with a finished round; it has none yet, give a config instead"
            raise ConfigError(msg)
        config = parse_config(yaml.safe_load(facts.config))
        detector = _built(config, len(facts.classes or ()), str(folder))
        settings = loss_prediction_of(make_strategy(config.strategy.name, config.strategy.parameters, table))
        if settings is not None and isinstance(detector, PyramidDetector):
            attach_module(detector, settings)
        load_weights_of(detector.module, trained_weights(ledger, rounds[-1].round))
    return config, detector


def _built(config: ExperimentConfig, classes: int, name: str) -> Network:
    plugin = make_detector(config)
    if Need.EMBEDDINGS not in plugin.gives:
        msg = f"{name}: detector {config.detector.name!r} gives no embeddings; name another one"
        raise ConfigError(msg)
    with seeded(RoundSeed(config.random_seed, 0).derive("init")):
        return plugin.build(classes)
