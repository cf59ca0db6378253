"""The parts of an experiment that its config names: data, detector, strategy and oracle. Torch is not loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from alloop.config.reading import ExperimentConfig
from alloop.data.cache_folder import CacheFolder
from alloop.data.splits import Splits
from alloop.detectors.plugin import DetectorPlugin
from alloop.errors import ConfigError
from alloop.oracles.oracle import OraclePlugin
from alloop.query import Need
from alloop.strategy import Strategy, make_strategy, unserved
from alloop.tasks.table import task_of
from alloop.tasks.task import Task

CACHE = "cache"  # folder in a run or a study; nothing in it is needed


@dataclass(frozen=True, slots=True)
class Parts:
    """Config, data, detector, strategy and oracle of one experiment."""

    config: ExperimentConfig
    splits: Splits
    detector: DetectorPlugin
    strategy: Strategy
    oracle: OraclePlugin

    @property
    def task(self) -> Task:
        """What depends on the kind of label."""
        return task_of(self.config)


def read_parts(config: ExperimentConfig, table: Mapping[str, str], kept: CacheFolder | None = None) -> Parts:
    """Read the data of a config, and make its plug-ins.

    Args:
        config: the experiment.
        table: strategies by name.
        kept: what can be computed again, and other runs of a study may have computed.

    Raises:
        ConfigError: unknown names or parameters, or a file that is not there.
        DataError: data that cannot be used.
    """
    splits = task_of(config).load_splits(config.data, for_people=config.oracle.asks_people, kept=kept)
    return parts_of(config, table, splits)


def parts_of(config: ExperimentConfig, table: Mapping[str, str], splits: Splits) -> Parts:
    """Make the plug-ins of a config whose data were read already.

    Raises:
        ConfigError: unknown names or parameters.
    """
    strategy = make_strategy(config.strategy.name, config.strategy.parameters, table)
    return Parts(config, splits, make_detector(config), strategy, make_oracle(config))


def kept_values(config: ExperimentConfig, cache: Path, report: Callable[[str], None]) -> CacheFolder:
    """Return what was computed before and is found in a folder; three quarters of `training.cache_gib` are for it."""
    return CacheFolder(cache, int(config.training.cache_gib * 2**30) * 3 // 4, report)


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
    return [need for need in unserved(strategy.needs, gives) if need not in (Need.REFERENCE, Need.SNAPSHOTS)]
